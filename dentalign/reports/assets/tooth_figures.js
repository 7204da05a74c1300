// A tooth's figures as a colour and as text. A figure is {label, unit, end, signed}, made by reports/page.py.
const toothFigures = (() => {
  "use strict";

  const IVORY = [0.965, 0.925, 0.835];
  const RISING = [IVORY, [0.95, 0.66, 0.33], [0.74, 0.1, 0.13]];
  const SIGNED = [[0.16, 0.36, 0.66], IVORY, [0.74, 0.1, 0.13]];
  const NO_FIGURE = [0.72, 0.74, 0.77];

  function mixed(stops, share) {
    const along = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
    const leg = Math.min(Math.floor(along), stops.length - 2);
    return stops[leg].map((value, i) => value + (along - leg) * (stops[leg + 1][i] - value));
  }

  // Red, green and blue, sRGB from 0 to 1; the scale of a figure with negative values has ivory at 0.
  function colourOf(figure, value) {
    if (!figure) return IVORY;
    if (value === undefined) return NO_FIGURE;
    return figure.signed ? mixed(SIGNED, 0.5 + value / figure.end / 2) : mixed(RISING, value / figure.end);
  }

  function gradientOf(figure) {
    const stops = (figure.signed ? SIGNED : RISING).map((rgb) => `rgb(${rgb.map((v) => Math.round(255 * v)).join(" ")})`);
    return `linear-gradient(to right, ${stops.join(", ")})`;
  }

  function shown(figure, value) {
    return value === undefined ? "–" : value.toFixed(figure.unit === "°" ? 1 : 2).replace("-", "−");
  }

  function withUnit(figure, value) {
    return value === undefined || figure.unit.startsWith("share") ? shown(figure, value) : `${shown(figure, value)} ${figure.unit}`;
  }

  return { colourOf, gradientOf, shown, withUnit };
})();
