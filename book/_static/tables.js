// DataTables (https://datatables.net, as itables bundles it) makes the tables of results sortable, and long ones
// searchable: a click on a head, or Enter, sorts by it. A cell counts as the number that it begins with; one without a
// number comes last. Beside the CSV of a table is a button that copies it, for a spreadsheet.
const number = (cell) => parseFloat(cell.replace(/<[^>]*>/g, "").replace("−", "-"));
const missing = (a, b) => Number.isNaN(a) - Number.isNaN(b);
const LONG = 10;

const addCopy = (table) => {
  const csv = table.closest("figure")?.querySelector("a.csv");
  if (!csv || !navigator.clipboard) return;
  const button = document.createElement("button");
  button.textContent = "Copy";
  button.className = "copy-table";
  button.addEventListener("click", async () => {
    const rows = [...table.rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()).join("\t"));
    await navigator.clipboard.writeText(rows.join("\n"));
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  csv.after(" ", button);
};

window.addEventListener("DOMContentLoaded", async () => {
  const tables = document.querySelectorAll("table.results");
  if (!tables.length) return;
  const { jQuery } = await import("./itables/dt_bundle.js");
  const DataTable = jQuery.fn.dataTable;
  DataTable.type("leading-number", {
    detect: {
      oneOf: (cell) => !Number.isNaN(number(cell)),
      allOf: (cell) => !Number.isNaN(number(cell)) || ["–", "not run"].includes(cell),
    },
    order: { pre: number, asc: (a, b) => missing(a, b) || a - b, desc: (a, b) => missing(a, b) || b - a },
  });
  const plain = { paging: false, info: false, order: [], autoWidth: false };
  tables.forEach((table) => {
    addCopy(table);
    const searching = table.tBodies[0].rows.length > LONG;
    const layout = { topStart: null, topEnd: null, top: searching ? "search" : null, bottomStart: null, bottomEnd: null };
    new DataTable(table, { ...plain, searching, layout });
  });
});
