// The 3D viewer of a report. Reads the JSON in #scenes (made by reports/page.py) and the elements of viewer.html.
//
// Head frame, mm: x to the patient's left, y to posterior, z up. A pose is [x, y, z, qx, qy, qz, qw],
// tooth-local -> head. Tests and scripts may read `window.dentalign`, at the end.
(() => {
  "use strict";

  const element = (id) => document.getElementById(id);
  const source = element("scenes");
  if (!source || !element("viewer")) return;
  const data = JSON.parse(source.textContent);

  // ------------------------------------------------------------------ state

  // Towards the viewer, in the head frame. The occlusal views look from a hair in front of the pole, so that
  // "up" is defined: incisors at the top from below, at the bottom from above, the patient's right on the left.
  const HAIR = 1e-4;
  const VIEWS = {
    frontal: { from: [0, -1, 0], name: "Frontal", sides: ["R", "L"] },
    right: { from: [-1, 0, 0], name: "Right side", sides: ["", ""] },
    left: { from: [1, 0, 0], name: "Left side", sides: ["", ""] },
    upper_occlusal: { from: [0, -HAIR, -1], name: "Upper arch, occlusal", sides: ["R", "L"], arch: "upper" },
    lower_occlusal: { from: [0, -HAIR, 1], name: "Lower arch, occlusal", sides: ["R", "L"], arch: "lower" },
  };
  const DISTANCE_MM = 400;

  let scene = null; // of the data
  let teeth = []; // { fdi, info, mesh, ghost, outline, label, material, position, turn, opacity, shown }
  let chosen = null; // FDI number
  let target = ""; // state key where the slider ends
  let progress = 1; // 0: first state, 1: target
  let view = "frontal";
  let colourBy = "";
  const arches = { upper: true, lower: true }; // shown now
  let wanted = { upper: true, lower: true }; // shown outside the occlusal views

  // ------------------------------------------------------------------ three.js

  const stage = element("stage");
  const canvas = element("teeth");
  const world = new THREE.Scene();
  const mouth = new THREE.Group();
  world.add(mouth);
  const camera = new THREE.OrthographicCamera(-1, 1, 1, -1, 1, 2 * DISTANCE_MM);
  camera.up.set(0, 0, 1);
  world.add(new THREE.HemisphereLight(0xffffff, 0xb9ab9d, 1.15));
  const lamp = new THREE.DirectionalLight(0xffffff, 2.1); // above and to the left of the viewer, moves along
  camera.add(lamp, lamp.target);
  lamp.position.set(-0.45, 0.65, 1);
  lamp.target.position.set(0, 0, 0);
  world.add(camera);

  let renderer = null;
  let controls = null;
  try {
    renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true, powerPreference: "low-power" });
  } catch {
    element("no-3d").hidden = false;
    stage.hidden = true;
  }
  if (renderer) {
    renderer.setPixelRatio(Math.min(window.devicePixelRatio || 1, 2));
    controls = new THREE.OrbitControls(camera, canvas);
    controls.minZoom = 1;
    controls.maxZoom = 200;
    // A page that scrolls under the pointer must not zoom the picture: first a click into it.
    controls.enableZoom = false;
    canvas.addEventListener("pointerdown", () => canvas.focus({ preventScroll: true }), { capture: true });
    canvas.addEventListener("focus", () => (controls.enableZoom = true));
    canvas.addEventListener("blur", () => (controls.enableZoom = false));
    controls.addEventListener("change", draw);
    controls.addEventListener("start", () => markView(""));
    new ResizeObserver(resize).observe(stage);
  }

  let drawing = false;
  function draw() {
    if (!renderer || drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      placeLabels();
      renderer.render(world, camera);
    });
  }

  let fitted = true; // until the user zooms, the picture follows the size of the window
  function resize() {
    const width = stage.clientWidth, height = stage.clientHeight;
    if (!width || !height) return;
    renderer.setSize(width, height, false);
    Object.assign(camera, { left: -width / 2, right: width / 2, top: height / 2, bottom: -height / 2 });
    camera.updateProjectionMatrix();
    if (fitted) fit();
    draw();
  }

  // ------------------------------------------------------------------ teeth

  const faceLists = data.faces.map(toothMeshes.facesOf);

  function build(info) {
    const tooth = { fdi: info.fdi, info, position: new THREE.Vector3(), turn: new THREE.Quaternion(), opacity: 1 };
    if (!renderer) return tooth;
    const geometry = toothMeshes.geometryOf(info, faceLists[info.faces]);
    tooth.material = new THREE.MeshStandardMaterial({ vertexColors: true, roughness: 0.42, side: THREE.DoubleSide });
    tooth.mesh = new THREE.Mesh(geometry, tooth.material);
    tooth.mesh.userData.fdi = info.fdi;
    tooth.ghost = toothMeshes.shadowOf(geometry);
    tooth.outline = toothMeshes.outlineOf(geometry);
    tooth.mesh.add(tooth.outline);
    tooth.label = toothMeshes.labelOf(info.fdi);
    mouth.add(tooth.mesh, tooth.ghost, tooth.label);
    return tooth;
  }

  function discard() {
    for (const tooth of teeth) {
      if (!tooth.mesh) continue;
      tooth.mesh.geometry.dispose();
      tooth.label.material.map.dispose();
      for (const part of [tooth.mesh, tooth.ghost, tooth.outline, tooth.label]) part.material.dispose();
    }
    mouth.clear();
    teeth = [];
  }

  // ------------------------------------------------------------------ movement

  const isStage = (key) => key.startsWith("stage");

  // The states passed on the way to the target: the first, the intermediate stages before it, itself.
  function path() {
    const keys = scene.states.map(([key]) => key);
    const end = keys.indexOf(target);
    let begin = end;
    while (begin > 1 && isStage(keys[begin - 1])) begin -= 1;
    return [keys[0], ...keys.slice(Math.max(begin, 1), end), target];
  }

  const labelOfState = (key) => (scene.states.find(([other]) => other === key) || ["", ""])[1];

  // A pose between two: lerp of the position, slerp of the rotation. A tooth that one of them lacks fades.
  function place(tooth, from, to, share) {
    const a = tooth.info.poses[from], b = tooth.info.poses[to];
    tooth.opacity = a && b ? 1 : a ? 1 - share : b ? share : 0;
    if (!a && !b) return;
    const start = a || b, end = b || a;
    tooth.position.fromArray(start).lerp(new THREE.Vector3().fromArray(end), share);
    tooth.turn.fromArray(start, 3).slerp(new THREE.Quaternion().fromArray(end, 3), share);
  }

  function move() {
    const keys = path();
    const along = progress * (keys.length - 1);
    const leg = Math.min(Math.floor(along), keys.length - 2);
    for (const tooth of teeth) {
      place(tooth, keys[leg], keys[leg + 1], along - leg);
      tooth.shown = tooth.opacity > 0.001 && arches[tooth.info.arch];
      if (!tooth.mesh) continue;
      tooth.mesh.position.copy(tooth.position);
      tooth.mesh.quaternion.copy(tooth.turn);
      tooth.mesh.visible = tooth.shown;
      const fading = tooth.opacity < 0.999;
      if (tooth.material.transparent !== fading) {
        tooth.material.transparent = fading;
        tooth.material.needsUpdate = true;
      }
      tooth.material.opacity = tooth.opacity;
    }
    describe(keys, along);
    draw();
  }

  function describe(keys, along) {
    const percent = Math.round(100 * progress);
    const near = Math.round(along);
    const leg = Math.min(Math.floor(along), keys.length - 2);
    const between = keys.length > 2 // stages
      ? `${labelOfState(keys[leg])} to ${labelOfState(keys[leg + 1])}`
      : `${percent} % to ${labelOfState(target)}`;
    const text = Math.abs(along - near) < 1e-6 ? labelOfState(keys[near]) : between;
    element("progress-label").textContent = text;
    element("progress").setAttribute("aria-valuetext", text);
    element("from-label").textContent = labelOfState(keys[0]);
    const at = text === labelOfState(target) || percent === 0 ? `at ${text}` : text;
    canvas.setAttribute("aria-label", `Teeth in 3D, case ${scene.case}, ${at}, ${VIEWS[view] ? VIEWS[view].name : "free view"}`);
  }

  function ghosts() {
    const key = element("ghost").value;
    for (const tooth of teeth) {
      if (!tooth.ghost) continue;
      const pose = tooth.info.poses[key];
      tooth.ghost.visible = Boolean(pose) && arches[tooth.info.arch];
      if (!pose) continue;
      tooth.ghost.position.fromArray(pose);
      tooth.ghost.quaternion.fromArray(pose, 3);
    }
    draw();
  }

  // ------------------------------------------------------------------ views

  function fit() {
    const right = new THREE.Vector3(), up = new THREE.Vector3(), near = new THREE.Vector3();
    camera.updateMatrixWorld();
    camera.matrixWorld.extractBasis(right, up, near);
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    const corner = new THREE.Vector3(), turn = new THREE.Quaternion();
    for (const tooth of teeth) {
      if (!arches[tooth.info.arch]) continue;
      const points = tooth.mesh.geometry.attributes.position;
      const stride = Math.ceil(points.count / 200); // some of the surface is enough
      for (const pose of Object.values(tooth.info.poses)) {
        turn.fromArray(pose, 3);
        for (let k = 0; k < points.count; k += stride) {
          corner.fromBufferAttribute(points, k).applyQuaternion(turn);
          corner.x += pose[0];
          corner.y += pose[1];
          corner.z += pose[2];
          [right, up, near].forEach((axis, i) => {
            low[i] = Math.min(low[i], corner.dot(axis));
            high[i] = Math.max(high[i], corner.dot(axis));
          });
        }
      }
    }
    if (!Number.isFinite(low[0])) return;
    const middle = [right, up, near].reduce(
      (sum, axis, i) => sum.addScaledVector(axis, (low[i] + high[i]) / 2), new THREE.Vector3());
    const offset = camera.position.clone().sub(controls.target).setLength(DISTANCE_MM);
    controls.target.copy(middle);
    camera.position.copy(middle).add(offset);
    const margin = 1.12;
    camera.zoom = Math.min((camera.right - camera.left) / (high[0] - low[0]), (camera.top - camera.bottom) / (high[1] - low[1])) / margin;
    camera.updateProjectionMatrix();
    controls.update();
  }

  // An occlusal view shows its arch alone, as on a tray; the others show what the user wanted.
  function look(name) {
    const arch = VIEWS[name].arch;
    Object.assign(arches, arch ? { upper: arch === "upper", lower: arch === "lower" } : wanted);
    for (const side of ["upper", "lower"]) element(side).checked = arches[side];
    view = name;
    if (renderer) {
      camera.position.copy(controls.target).addScaledVector(new THREE.Vector3(...VIEWS[name].from).normalize(), DISTANCE_MM);
      controls.update();
      fitted = true;
      fit();
    }
    move();
    ghosts();
    markView(name);
  }

  function markView(name) {
    view = name;
    if (!name) fitted = false;
    for (const button of document.querySelectorAll("[data-view]"))
      button.setAttribute("aria-pressed", String(button.dataset.view === name));
    const { sides, name: words } = VIEWS[name] || { sides: ["", ""], name: "" };
    element("view-name").textContent = words;
    element("left-side").textContent = sides[0];
    element("right-side").textContent = sides[1];
  }

  // Numbers stand on the side of the tooth that faces the viewer: buccal (+y) or occlusal (+z). Seen from
  // its lingual side a tooth has none: through the gaps of the near side that would confuse.
  function placeLabels() {
    const towards = camera.getWorldDirection(new THREE.Vector3()).negate();
    const axis = new THREE.Vector3();
    const size = Math.max(14, Math.min(20, stage.clientWidth / 30)) / camera.zoom; // pixels -> mm
    for (const tooth of teeth) {
      const { max } = tooth.mesh.geometry.boundingBox;
      let best = 0.25, at = null;
      for (const [unit, reach] of [[[0, 1, 0], max.y], [[0, 0, 1], max.z]]) {
        const facing = axis.set(...unit).applyQuaternion(tooth.turn).dot(towards);
        if (facing > best) {
          best = facing;
          at = axis.clone().multiplyScalar(reach);
        }
      }
      tooth.label.visible = Boolean(at) && tooth.mesh.visible && tooth.opacity > 0.5 && element("numbers").checked;
      if (!at) continue;
      // In front of its own tooth, but behind one that stands nearer to the viewer.
      tooth.label.position.copy(tooth.position).add(at).addScaledVector(towards, 2);
      tooth.label.scale.set(1.5 * size, size, 1);
    }
  }

  // ------------------------------------------------------------------ colours and figures

  const figureOf = () => data.figures[colourBy];
  const colourOf = (tooth) => toothFigures.colourOf(figureOf(), tooth.info.values[colourBy]);

  function paint() {
    for (const tooth of teeth)
      if (tooth.material) tooth.material.color.setRGB(...colourOf(tooth), THREE.SRGBColorSpace);
    element("legend").hidden = !colourBy;
    if (colourBy) {
      const { label, unit, end, signed } = figureOf();
      element("legend-bar").style.background = toothFigures.gradientOf(figureOf());
      element("legend-low").textContent = signed ? `≤ −${end}` : "0";
      element("legend-high").textContent = `≥ ${end}`;
      element("legend-title").textContent = `${label}, ${unit}`;
    }
    draw();
  }

  function make(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function select(fdi) {
    chosen = teeth.some((tooth) => tooth.fdi === fdi) ? fdi : null;
    for (const tooth of teeth) if (tooth.outline) tooth.outline.visible = tooth.fdi === chosen;
    for (const row of element("teeth-table").tBodies[0].rows) {
      const here = Number(row.dataset.fdi) === chosen;
      row.classList.toggle("chosen", here);
      row.querySelector("button").setAttribute("aria-pressed", String(here));
    }
    const panel = element("tooth");
    panel.replaceChildren();
    const tooth = teeth.find((other) => other.fdi === chosen);
    if (!tooth) {
      panel.append(make("p", "Click a tooth, or choose it in the table, for its figures.", { class: "hint" }));
    } else {
      panel.append(make("h3", `${tooth.fdi}, ${tooth.info.name}`));
      const list = make("dl");
      for (const name of scene.figures) {
        if (tooth.info.values[name] === undefined) continue;
        list.append(make("dt", data.figures[name].label), make("dd", toothFigures.withUnit(data.figures[name], tooth.info.values[name]), { "data-figure": name }));
      }
      const lacks = scene.states.filter(([key]) => !isStage(key) && !(key in tooth.info.poses)).map(([, label]) => label);
      if (lacks.length) panel.append(make("p", `Not there at: ${lacks.join(", ")}.`, { class: "hint" }));
      panel.append(list);
    }
    draw();
  }

  function writeTable() {
    const table = element("teeth-table");
    const head = make("tr");
    const heading = (text, words) => {
      const cell = make("th", undefined, { scope: "col", ...(words ? { class: "words" } : {}) });
      cell.append(make("button", text, { type: "button" }));
      head.append(cell);
    };
    heading("Tooth", true);
    for (const name of scene.figures) heading(`${data.figures[name].label}, ${data.figures[name].unit}`);
    heading("Name", true);
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(
      ...scene.teeth.map((tooth) => {
        const row = make("tr", undefined, { "data-fdi": tooth.fdi });
        const number = make("td", undefined, { "data-value": tooth.fdi });
        const button = make("button", String(tooth.fdi), { type: "button", "aria-label": `Tooth ${tooth.fdi}, ${tooth.name}` });
        button.addEventListener("click", () => select(chosen === tooth.fdi ? null : tooth.fdi));
        number.append(button);
        row.append(number);
        for (const name of scene.figures) {
          const value = tooth.values[name];
          row.append(make("td", toothFigures.shown(data.figures[name], value), value === undefined ? {} : { "data-value": value }));
        }
        row.append(make("td", tooth.name, { class: "words" }));
        return row;
      }),
    );
  }

  // ------------------------------------------------------------------ a scene, and the controls

  function options(select_, entries, value) {
    select_.replaceChildren(...entries.map(([key, label]) => make("option", label, { value: key })));
    select_.value = value;
    select_.disabled = entries.length < 2;
  }

  function show(number) {
    const before = { target, ghost: element("ghost").value, colourBy, first: scene === null };
    scene = data.scenes[number];
    discard();
    teeth = scene.teeth.map(build);
    const ends = scene.states.slice(1).filter(([key]) => !isStage(key));
    if (!ends.length) ends.push(scene.states.at(-1));
    const kept = (entries, key, otherwise) => (entries.some(([other]) => other === key) ? key : otherwise);
    target = kept(ends, before.target, ends[0][0]);
    const box = element("targets");
    box.querySelectorAll("label").forEach((label) => label.remove());
    for (const [key, label] of ends) {
      const choice = make("label");
      const input = make("input", undefined, { type: "radio", name: "target", value: key });
      input.checked = key === target;
      input.addEventListener("change", () => {
        target = key;
        if (progress === 0) setProgress(1);
        else move();
      });
      choice.append(input, make("span", label));
      box.append(choice);
    }
    const shadows = [["", "nothing"], ...scene.states.filter(([key]) => !isStage(key))];
    options(element("ghost"), shadows, kept(shadows, before.ghost, ""));
    const colours = [["", "nothing"], ...scene.colourBy.map((name) => [name, `${data.figures[name].label}, ${data.figures[name].unit}`])];
    colourBy = kept(colours, before.colourBy, before.first && scene.colourBy.length ? scene.colourBy[0] : "");
    if (before.first && scene.colourBy.length) colourBy = scene.colourBy[0];
    options(element("colour"), colours, colourBy);
    element("notes").replaceChildren(...scene.notes.map((note) => make("li", note)));
    const has = (arch) => scene.teeth.some((tooth) => tooth.arch === arch);
    wanted = { upper: has("upper"), lower: has("lower") };
    for (const arch of ["upper", "lower"]) {
      element(arch).disabled = !has(arch);
      document.querySelector(`[data-view="${arch}_occlusal"]`).disabled = !has(arch);
    }
    writeTable();
    const arch = VIEWS[view] && VIEWS[view].arch;
    look(VIEWS[view] && (!arch || has(arch)) ? view : "frontal");
    paint();
    select(chosen);
  }

  function setProgress(share) {
    progress = share;
    element("progress").value = String(Math.round(1000 * share));
    move();
  }

  let playing = 0;
  function stop() {
    cancelAnimationFrame(playing);
    playing = 0;
    element("play").textContent = "▶";
    element("play").setAttribute("aria-label", "Play the movement");
  }

  function play() {
    if (playing) return stop();
    const begin = performance.now(), from = progress >= 1 ? 0 : progress, whole = 2500;
    const step = (now) => {
      setProgress(Math.min(1, Math.max(from, from + (now - begin) / whole)));
      if (progress >= 1) stop();
      else playing = requestAnimationFrame(step);
    };
    element("play").textContent = "❚❚";
    element("play").setAttribute("aria-label", "Stop the movement");
    playing = requestAnimationFrame(step);
    return undefined;
  }

  element("play").addEventListener("click", play);
  element("progress").addEventListener("input", (event) => {
    stop();
    progress = Number(event.target.value) / 1000;
    move();
  });
  for (const arch of ["upper", "lower"]) {
    element(arch).addEventListener("change", (event) => {
      arches[arch] = event.target.checked;
      wanted = { ...arches };
      move();
      ghosts();
    });
  }
  element("numbers").addEventListener("change", draw);
  element("ghost").addEventListener("change", ghosts);
  element("colour").addEventListener("change", (event) => {
    colourBy = event.target.value;
    paint();
  });
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => look(button.dataset.view));
  for (const input of document.querySelectorAll("#cases input"))
    input.addEventListener("change", () => show(Number(input.value)));
  for (const link of document.querySelectorAll("[data-show-case]"))
    link.addEventListener("click", () => {
      const input = document.querySelectorAll("#cases input")[Number(link.dataset.showCase)];
      input.checked = true;
      show(Number(link.dataset.showCase));
      element("viewer").scrollIntoView();
      input.focus({ preventScroll: true });
    });

  // ------------------------------------------------------------------ pointer and keys in the picture

  let pressed = null;
  canvas.addEventListener("pointerdown", (event) => {
    pressed = event.isPrimary && event.button === 0 ? [event.clientX, event.clientY] : null;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) > 5) return;
    const frame = canvas.getBoundingClientRect();
    const at = new THREE.Vector2(
      (2 * (event.clientX - frame.left)) / frame.width - 1, 1 - (2 * (event.clientY - frame.top)) / frame.height);
    const ray = new THREE.Raycaster();
    world.updateMatrixWorld();
    ray.setFromCamera(at, camera);
    const solid = teeth.filter((tooth) => tooth.shown && tooth.opacity > 0.3).map((tooth) => tooth.mesh);
    const hit = ray.intersectObjects(solid, false)[0];
    select(hit ? hit.object.userData.fdi : null);
  });

  function turn(sideways, upwards) {
    const around = new THREE.Spherical();
    const offset = camera.position.clone().sub(controls.target);
    around.setFromVector3(new THREE.Vector3(offset.x, offset.z, -offset.y)); // three's spherical has y up
    around.theta += sideways;
    around.phi = Math.min(Math.max(around.phi + upwards, HAIR), Math.PI - HAIR);
    const moved = new THREE.Vector3().setFromSpherical(around);
    camera.position.copy(controls.target).add(new THREE.Vector3(moved.x, -moved.z, moved.y));
    controls.update();
    markView("");
    describe(path(), progress * (path().length - 1));
    draw();
  }

  function zoom(factor) {
    camera.zoom = Math.min(Math.max(camera.zoom * factor, controls.minZoom), controls.maxZoom);
    camera.updateProjectionMatrix();
    fitted = false;
    draw();
  }

  const STEP = Math.PI / 18;
  const KEYS = {
    ArrowLeft: () => turn(-STEP, 0),
    ArrowRight: () => turn(STEP, 0),
    ArrowUp: () => turn(0, -STEP),
    ArrowDown: () => turn(0, STEP),
    "+": () => zoom(1.15),
    "=": () => zoom(1.15),
    "-": () => zoom(1 / 1.15),
    Escape: () => select(null),
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const button = document.querySelectorAll("[data-view]")[Number(event.key) - 1];
    if (button && !button.disabled) look(button.dataset.view);
    else if (KEYS[event.key] && renderer) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("wheel", () => document.activeElement === canvas && markView(""), { passive: true });

  // ------------------------------------------------------------------ points of a clinical measure

  let marks = []; // dots, each a child of its tooth
  function mark(points) {
    for (const dot of marks) dot.removeFromParent();
    marks = [];
    for (const [fdi, x, y, z] of points) {
      const tooth = teeth.find((other) => other.fdi === fdi);
      if (!tooth || !tooth.mesh) continue;
      const dot = toothMeshes.dotOf([x, y, z]);
      tooth.mesh.add(dot);
      marks.push(dot);
    }
    draw();
  }

  for (const table of document.querySelectorAll("table.clinical")) {
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-marks]");
      if (!button) return;
      const pressed = button.getAttribute("aria-pressed") === "true";
      for (const other of document.querySelectorAll("button[data-marks]")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(!pressed));
      mark(pressed ? [] : JSON.parse(button.dataset.marks));
    });
  }

  // ------------------------------------------------------------------ for tests and scripts

  const at = (fdi) => teeth.find((tooth) => tooth.fdi === fdi && tooth.shown);
  window.dentalign = Object.freeze({
    /** Position of the tooth's origin, [x, y, z] in the head frame, mm; null for a hidden tooth. */
    toothPosition: (fdi) => (at(fdi) ? at(fdi).position.toArray() : null),
    /** Rotation of the tooth, quaternion [x, y, z, w]; null for a hidden tooth. */
    toothRotation: (fdi) => (at(fdi) ? at(fdi).turn.toArray() : null),
    /** Centre of the tooth's bounding box on the page, [x, y] in CSS pixels of the window; null for a hidden tooth. */
    toothOnScreen: (fdi) => {
      const tooth = at(fdi);
      if (!tooth || !tooth.mesh) return null;
      camera.updateMatrixWorld();
      tooth.mesh.updateMatrixWorld();
      const middle = tooth.mesh.geometry.boundingBox.getCenter(new THREE.Vector3());
      const seen = tooth.mesh.localToWorld(middle).project(camera);
      const frame = canvas.getBoundingClientRect();
      return [frame.left + ((seen.x + 1) / 2) * frame.width, frame.top + ((1 - seen.y) / 2) * frame.height];
    },
    /** Number of points of a clinical measure that are marked. */
    markedPoints: () => marks.length,
    /** FDI numbers of the visible teeth. */
    shownTeeth: () => teeth.filter((tooth) => tooth.shown).map((tooth) => tooth.fdi),
    /** The colour of a tooth, sRGB 0 to 1. */
    toothColour: (fdi) => (at(fdi) ? colourOf(at(fdi)) : null),
    /** Direction to the viewer, unit vector in the head frame. */
    viewDirection: () => camera.position.clone().sub(controls.target).normalize().toArray(),
    /** Choose a tooth, or none. */
    select,
  });

  show(0);
})();
