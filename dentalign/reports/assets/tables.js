// Tables that sort by a click, or Enter, on a column's heading.
(() => {
  "use strict";

  // Sort key of a cell: its number if it has one. Cells without a figure come last in either direction.
  function key(cell) {
    const text = cell.textContent.trim();
    return cell.dataset.value !== undefined ? Number(cell.dataset.value) : text === "–" || text === "" ? null : text;
  }

  function sort(table, heading) {
    const column = [...heading.parentNode.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [key(row.cells[column]), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  // Listening on the table itself: its headings may be written again.
  for (const table of document.querySelectorAll("table.sortable")) {
    table.addEventListener("click", (event) => {
      const button = event.target.closest("thead button");
      if (button) sort(table, button.closest("th"));
    });
  }
})();
