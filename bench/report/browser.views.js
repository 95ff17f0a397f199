// One image, large: alone, as its difference from the baseline's, or in turns with it; near or far.
const TURN = 600; // milliseconds of one image: slower than three changes a second
const SCALES = [1, 2, 4, 8];
const GAINS = [1, 4, 16];

let enlarged = null; // the method whose image fills the dialog
let view = "image"; // or "difference", "flicker"
let scale = 1;
let gain = 4;
let ticking = null; // the timer of the flicker view

const comparable = () => enlarged !== BASELINE && sources(opened.shown[BASELINE]).some(Boolean) && sources(opened.shown[enlarged]).some(Boolean);
const still = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function enlarge(method) {
  enlarged = method;
  if (view !== "image" && !comparable()) view = "image";
  drawZoom();
  $("zoom").hidden = false;
  $("cards").hidden = true;
  $("zoom").querySelector("[aria-pressed=true]").focus();
}

function reduce() {
  const method = enlarged;
  leaveZoom();
  $("cards").hidden = false;
  const from = $("cards").querySelector(`[data-method="${method}"] button`);
  if (from) from.focus();
}

function leaveZoom() {
  rest();
  enlarged = null;
  $("zoom").hidden = true;
  $("zoom").replaceChildren();
}

// A row of buttons of which one is pressed.
function choices(label, options, chosen, choose, able = () => true) {
  return make("nav", { "aria-label": label }, ...options.map(([value, text]) =>
    make("button", { type: "button", "data-choice": `${label} ${value}`, "aria-pressed": String(value === chosen), text, disabled: !able(value), click: () => choose(value) })));
}

// Draws all again, and keeps the keyboard where it was.
function change(set) {
  return (value) => {
    set(value);
    const focused = document.activeElement && document.activeElement.dataset.choice;
    drawZoom();
    const same = focused && [...$("zoom").querySelectorAll("button")].find((button) => button.dataset.choice === focused);
    if (same && !same.disabled) same.focus();
  };
}

function drawZoom() {
  rest();
  const names = methodsOf(opened).map((method) => [method, methods[method]]);
  const bars = [
    choices("Methods", names, enlarged, change((method) => { enlarged = method; if (!comparable()) view = "image"; })),
    choices("View", [["image", "Image"], ["difference", "Difference to baseline"], ["flicker", "Flicker with baseline"]], view,
      change((value) => { view = value; }), (value) => value === "image" || comparable()),
    choices("Zoom", SCALES.map((value) => [value, `${value}×`]), scale, change((value) => { scale = value; })),
  ];
  if (view === "difference") bars.push(choices("Difference times", GAINS.map((value) => [value, `× ${value}`]), gain, change((value) => { gain = value; })));
  const said = make("p", { class: "browser-said" });
  const large = (method) => picture(opened.shown[method], `${methods[method]}: ${opened.prompt}`, true);
  if (view === "image") {
    const shot = make("button", { type: "button", class: "browser-shot", "aria-label": `${methods[enlarged]}, back to all`, click: reduce }, large(enlarged));
    $("zoom").replaceChildren(make("div", { class: "browser-tools" }, ...bars), said, pan(shot));
    return;
  }
  const stack = make("div", { class: `browser-stack ${view}` }, large(BASELINE), large(enlarged));
  if (view === "difference") {
    stack.style.filter = `brightness(${gain})`;
    said.textContent = `Black: the same in ${methods[enlarged]} and ${methods[BASELINE]}; differences are shown × ${gain}.`;
  } else {
    const turn = make("button", { type: "button", text: "Switch", click: () => { rest(); swap(stack, said); play.textContent = "Play"; } });
    const play = make("button", { type: "button", text: "Pause", click: () => { if (ticking) { rest(); play.textContent = "Play"; } else { tick(stack, said); play.textContent = "Pause"; } } });
    bars.push(make("nav", { "aria-label": "Flicker" }, play, turn));
    swap(stack, said);
    if (still()) play.textContent = "Play";
    else tick(stack, said);
  }
  $("zoom").replaceChildren(make("div", { class: "browser-tools" }, ...bars), said, pan(stack));
}

function pan(inner) {
  const fitted = make("div", { class: "browser-fit" }, inner);
  fitted.style.height = `${100 * scale}%`;
  return make("div", { class: "browser-pan", tabindex: 0, role: "region", "aria-label": "Image" }, fitted);
}

function swap(stack, said) {
  const method = stack.classList.toggle("second") ? enlarged : BASELINE;
  said.textContent = methods[method];
}

function tick(stack, said) {
  ticking = setInterval(() => swap(stack, said), TURN);
}

function rest() {
  clearInterval(ticking);
  ticking = null;
}

const near = (by) => () => {
  if (enlarged === null) return;
  const to = SCALES[SCALES.indexOf(scale) + by];
  if (to) change(() => { scale = to; })();
};
const toggle = (name) => () => {
  if (enlarged !== null && comparable()) change(() => { view = view === name ? "image" : name; })();
};

const viewKeys = { "+": near(1), "=": near(1), "-": near(-1), d: toggle("difference"), f: toggle("flicker") };
