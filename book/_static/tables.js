// DataTables (https://datatables.net, as itables bundles it) makes the tables of results sortable: a click on a head,
// or Enter, sorts by it. A cell counts as the number that it begins with; one without a number comes last.
const number = (cell) => parseFloat(cell.replace(/<[^>]*>/g, "").replace("−", "-"));
const missing = (a, b) => Number.isNaN(a) - Number.isNaN(b);

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
  const plain = { paging: false, searching: false, info: false, order: [], autoWidth: false };
  tables.forEach((table) => new DataTable(table, plain));
});
