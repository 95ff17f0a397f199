// Tables: sort by a column, copy, download as CSV, and say where there is more to scroll to. Folds open where a link leads.
(() => {
"use strict";
const NUMBER = /^[^\d+−-]*([+−-]?[\d,]*\.?\d+)/;

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "text") element.textContent = value;
    else if (name === "click") element.addEventListener("click", value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const value = (cell) => (cell.querySelector(":scope > span, :scope > strong") || cell).textContent.trim();
const detail = (cell, kind) => { const small = cell.querySelector(`:scope > small.${kind}`); return small ? small.textContent.trim() : ""; };

function amount(text) {
  const found = NUMBER.exec(text);
  return found ? Number(found[1].replace(/,/g, "").replace("−", "-")) : null;
}

// Sorting ------------------------------------------------------------------------------------------------------------

// Rows of one group stay together, as the line above them says whose they are.
function groups(body) {
  const found = [];
  for (const row of body.rows) {
    if (row.classList.contains("group")) found.push({ head: row, rows: [] });
    else (found[found.length - 1] || (found.push({ head: null, rows: [] }), found[0])).rows.push(row);
  }
  return found;
}

const ORDER = { none: "descending", descending: "ascending", ascending: "none" };

function sort(table, heads, column) {
  const head = heads[column], way = ORDER[head.getAttribute("aria-sort") || "none"];
  for (const other of heads) other.removeAttribute("aria-sort");
  if (way !== "none") head.setAttribute("aria-sort", way);
  const turn = way === "ascending" ? 1 : -1;
  const compare = (a, b) => {
    if (way === "none") return a.dataset.at - b.dataset.at;
    const [x, y] = [a, b].map((row) => value(row.cells[column]));
    const [m, n] = column ? [amount(x), amount(y)] : [x, y].map(() => null);
    if (column && (m === null || n === null)) return (m === null) - (n === null) || a.dataset.at - b.dataset.at;
    return turn * (column ? m - n : x.localeCompare(y)) || a.dataset.at - b.dataset.at;
  };
  for (const body of table.tBodies) {
    for (const group of groups(body)) {
      group.rows.sort(compare);
      body.append(...(group.head ? [group.head] : []), ...group.rows);
    }
  }
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  [...table.tBodies].forEach((body) => [...body.rows].forEach((row, at) => { row.dataset.at = at; }));
  // A number without a sentence of its own has its column's.
  for (const body of table.tBodies) {
    for (const row of body.rows) for (const cell of row.cells) if (!cell.title && heads[cell.cellIndex] && cell.tagName === "TD") cell.title = heads[cell.cellIndex].title;
  }
  heads.forEach((head, column) => {
    const button = make("button", { type: "button", text: head.textContent, click: () => sort(table, heads, column) });
    head.replaceChildren(button);
  });
}

// Copy and CSV -------------------------------------------------------------------------------------------------------

const DELTA = /^([+−-]?[\d.,]+)?\s*\[([^,\]]+), ([^\]]+)\]/;

// Every number in a cell of its own: the mean, the delta, its bounds, the p-value.
function lines(table) {
  const labels = table.dataset.labels ? table.dataset.labels.split("|") : [];
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const body = [...table.tBodies].flatMap((one) => groups(one)).flatMap(({ head, rows }) => {
    const place = head ? [...head.querySelectorAll(".place > span")].map((part) => part.textContent.trim()) : [];
    return rows.map((row) => ({ place, cells: [...row.cells] }));
  });
  const parts = names.map((name, column) => {
    const cells = body.map(({ cells: all }) => all[column]);
    const details = cells.map((cell) => detail(cell, "d")).filter(Boolean);
    const found = [[name, value]];
    if (column && details.length && details.every((text) => DELTA.test(text))) {
      ["delta", "low", "high"].forEach((what, at) => found.push([`${name}: ${what}`, (cell) => (DELTA.exec(detail(cell, "d")) || [])[at + 1] || ""]));
    } else if (details.length) found.push([`${name}: detail`, (cell) => detail(cell, "d")]);
    if (cells.some((cell) => detail(cell, "p"))) found.push([`${name}: p`, (cell) => detail(cell, "p").replace(/^p (= )?/, "").replace(/ /g, "")]);
    return found;
  });
  const head = [...labels, ...parts.flatMap((found) => found.map(([name]) => name))];
  return [head, ...body.map(({ place, cells }) => [...labels.map((_, at) => place[at] || ""), ...parts.flatMap((found, column) => found.map(([, read]) => read(cells[column])))])];
}

// A text that a spreadsheet would take for a formula is kept from being one.
function plain(text) {
  return /^[=@\t\r]/.test(text) || (/^[+−-]/.test(text) && !/^[+−-][\d.,]+( %)?$/.test(text)) ? `'${text}` : text;
}

const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
const csv = (table) => lines(table).map((line) => line.map((text) => quoted(plain(text))).join(",")).join("\r\n") + "\r\n";
const tabs = (table) => lines(table).map((line) => line.map((text) => plain(text).replace(/\s+/g, " ")).join("\t")).join("\n");

function download(table, name) {
  const blob = new Blob(["\uFEFF", csv(table)], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(blob), download: `${name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "table"}.csv` });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function tools(scroll, table, name) {
  const more = make("span", { class: "more", hidden: true }), said = make("span", { role: "status" });
  const tell = async () => { said.textContent = (await copy(tabs(table))) ? "Copied." : "The browser refused; use CSV."; };
  const bar = make("div", { class: "tools" }, more, said);
  if (!table.closest(".strip")) {
    bar.append(make("button", { type: "button", text: "Copy", "aria-label": `Copy the table ${name}`, click: tell }),
      make("button", { type: "button", text: "CSV", "aria-label": `Download the table ${name} as CSV`, click: () => download(table, name) }));
  }
  scroll.before(bar);
  const look = () => {
    const hidden = scroll.scrollWidth - scroll.clientWidth;
    const edge = scroll.getBoundingClientRect().right;
    const beyond = [...table.tHead.rows[0].cells].filter((cell) => cell.getBoundingClientRect().right > edge + 1).length;
    more.hidden = hidden < 2;
    more.textContent = beyond ? `Scroll sideways → ${beyond} more column${beyond > 1 ? "s" : ""}` : "← Scroll back";
  };
  new ResizeObserver(look).observe(scroll);
  scroll.addEventListener("scroll", look, { passive: true });
}

for (const scroll of document.querySelectorAll(".scroll")) {
  const table = scroll.querySelector("table");
  if (!table || !table.tHead) continue;
  if (!table.closest(".strip")) sortable(table);
  tools(scroll, table, scroll.getAttribute("aria-label"));
}

// Folds --------------------------------------------------------------------------------------------------------------

function reveal() {
  const id = location.hash.slice(1), found = id && document.getElementById(id);
  const fold = found && found.closest("details");
  if (!fold) return;
  fold.open = true;
  fold.scrollIntoView();
}

window.addEventListener("hashchange", reveal);
document.querySelector(".contents")?.addEventListener("click", (event) => { if (event.target.hash === location.hash) reveal(); });
window.addEventListener("beforeprint", () => { for (const fold of document.querySelectorAll("details.fold")) fold.open = true; });
reveal();
})();
