// The filter of the list of what was left out. Text is compared as it stands in the table.
(() => {
  "use strict";

  const box = document.getElementById("filter"), count = document.getElementById("shown");
  const rows = [...document.querySelectorAll("#left-out tbody tr")];

  function filter() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} lines`;
  }

  box.addEventListener("input", filter);
  for (const button of document.querySelectorAll("button[data-code]"))
    button.addEventListener("click", () => {
      box.value = button.dataset.code;
      filter();
      box.focus();
    });
  filter();
})();
