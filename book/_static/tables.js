// Sortable tables: a click (or Enter) on a head sorts by it, a second one turns the order round.
// Cells carry what they sort by in data-order; the largest number comes first, a missing one last.
const makeSortable = (table) => {
  const body = table.tBodies[0];
  const heads = [...table.tHead.querySelectorAll("th[data-column]")];
  heads.forEach((head) => {
    const column = Number(head.dataset.column);
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.title = "Sort by this column";
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      const numbers = [...body.rows].every((row) => !Number.isNaN(Number(row.cells[column].dataset.order || "x")));
      const compare = (a, b) => (numbers ? Number(a) - Number(b) : -a.localeCompare(b));
      const key = (row) => row.cells[column].dataset.order;
      const rows = [...body.rows].sort((one, other) => (up ? 1 : -1) * compare(key(one), key(other)));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...rows);
    });
  });
};

window.addEventListener("DOMContentLoaded", () => document.querySelectorAll("table.sortable").forEach(makeSortable));
