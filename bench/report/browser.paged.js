// All pairs of a large run, from data files beside the page: each is loaded when a reader gets to what it has. A page from
// disk may load scripts and nothing else; such a file is one, and hands its data over as a string.
const beside = data.paged; // null where no files were written: the page holds every pair
const files = new Map(); // what was loaded, by name
const coming = new Map(); // promises of what is on its way
const wishes = new Map(); // the last wish of each kind: an earlier one that comes late is dropped
let every = []; // the pairs of all files, once their index is there

// A pair of the files. Its text, images and scores are there once its page is, one score of it also with a column.
class Paged {
  constructor(at) { this.at = at; }

  get setting() { return files.get("index").settings[this.at]; }
  get set() { return files.get("index").sets[this.at]; }
  get category() { return files.get("index").categories[this.at]; }
  get index() { return files.get("index").indices[this.at]; }
  get seed() { return files.get("index").seeds[this.at]; }
  get key() { return keyOf(this); }
  get file() { return `p${Math.floor(this.at / beside.page)}`; }
  get page() { return files.get(this.file); }
  get row() { return this.at % beside.page; }
  get prompt() { return this.page.prompts[this.row]; }
  get text() { return `${files.get("prompts").searched[files.get("prompts").of[this.at]]}\n${named(this)}`; }
  get shown() { return this.page.shown.map((column) => column[this.row]); }
  get changes() { return []; } // pictures are compared where they are embedded

  score(method, metric) {
    const column = files.get(columnOf(method, metric));
    return column ? column.scores[this.at] : this.page.scores[method][metric][this.row];
  }
}

const columnOf = (method, metric) => `s${method}-${metric}`;
// Whether a pair can be shown: false for one whose page is not there.
const here = (pair) => !(pair instanceof Paged) || pair.page !== undefined;

// Loading --------------------------------------------------------------------------------------------------------------

function load(name) {
  if (!coming.has(name)) {
    coming.set(name, new Promise((resolve, reject) => {
      const address = `${beside.folder}/${name}.js`;
      const script = make("script", { src: address, nonce: beside.of });
      script.addEventListener("load", () => {
        script.remove();
        const { of, held: content } = script.data ? JSON.parse(script.data) : {};
        if (of === beside.of) resolve(files.set(name, accepted(name, content)));
        else reject(`${address} belongs to another report: write this one again (bench report).`);
      });
      script.addEventListener("error", () => {
        script.remove();
        reject(`${address} is not beside this page: keep the folder ${beside.folder} with report.html to see all ${beside.total} pairs.`);
      });
      document.head.append(script);
    }));
    coming.get(name).catch(() => coming.delete(name)); // it may be there the next time
  }
  return coming.get(name);
}

function accepted(name, content) {
  if (name === "prompts") content.searched = content.texts.map((text) => text.toLowerCase());
  if (name === "index") {
    offer("set", sets, content.names.sets);
    offer("category", categories, content.names.categories);
    every = content.seeds.map((_, at) => new Paged(at));
  }
  if (content.images) content.shown = content.images.map((column) => column.map((image) => (image ? images.push([...image, "", 0]) - 1 : -1)));
  return content;
}

// Names that none of the pairs in the page has are choices from now on.
function offer(control, known, names) {
  for (const name of names.slice(known.length)) {
    $(control).append(make("option", { value: known.push(name) - 1, text: name || "(none)" }));
  }
  $(control).closest("label").hidden = known.length < 2;
}

// Calls `then` when all these files were tried, at once where they are there; a later wish of the kind replaces this one.
function need(kind, names, then) {
  const wish = {};
  wishes.set(kind, wish);
  const missing = [...new Set(names)].filter((name) => !files.has(name));
  if (!missing.length) {
    $("list").removeAttribute("aria-busy");
    then();
    return;
  }
  $("list").setAttribute("aria-busy", "true");
  Promise.allSettled(missing.map(load)).then((found) => {
    if (wishes.get(kind) !== wish) return;
    $("list").removeAttribute("aria-busy");
    const fault = found.find(({ reason }) => reason);
    if (fault) tellFault(fault.reason);
    then(fault);
  });
}

function tellFault(text) {
  $("fault").textContent = text;
  $("fault").hidden = !text;
}

// Pairs ----------------------------------------------------------------------------------------------------------------

// Calls `then` when all that these filters ask of the pairs is there; where some is not, they are of the page's own pairs.
function ready({ all, words, won, least, sort, metric, method }, then) {
  tellFault("");
  const compared = metric !== null && (won || least > 0 || ["gain", "loss", "size"].includes(sort));
  const names = all ? ["index"] : [];
  if (all && words.length) names.push("prompts");
  if (all && compared) names.push(columnOf(BASELINE, metric), columnOf(method, metric));
  need("list", names, (fault) => {
    if (fault) $("among").value = "";
    pairs = all && !fault ? every : own;
    then();
  });
}

// Calls `then` when the pages of these pairs were tried.
function whole(kind, some, then) {
  need(kind, some.filter((pair) => pair instanceof Paged).map((pair) => pair.file), then);
}

function tellCount() {
  const among = pairs !== own ? "; how far pictures changed is known only of those in this page"
    : data.total > own.length ? ` (evenly spaced among ${data.total} of the run)` : "";
  $("count").textContent = `${list.length} of ${pairs.length} pairs${among}`;
  for (const field of [$("moved"), ...$("sort").querySelectorAll("[value=most], [value=fewest]")]) field.disabled = pairs !== own;
}
