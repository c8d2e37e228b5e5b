// Draws the charts of the page from its two blocks of JSON: the reply of `rlmctl history --json` as it is, and how its
// rows lie on the axis of time. Drawn at the width that there is, so that letters keep their size on a phone.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const usage = read("history");
const { buckets, places, providers, rests, start, end } = read("drawing");

const HEIGHT = 150;
const BELOW = 20; // for the times
const LEAST = 3; // pixels of a bar; where buckets are narrower, neighbours share one
const LANE = 14;
const SVG = document.getElementById("blank").namespaceURI; // named by the browser: the page names no address at all

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const colour = (provider) => `var(--p${providers.indexOf(provider) % 8})`;
const whole = (n) => n.toLocaleString("en", { maximumFractionDigits: 0 });
const money = (n) =>
  "$" + n.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: n < 1 ? 4 : 2 });
const short = (n) => n.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });

const CHARTS = [
  { name: "requests", title: "Requests", of: (row) => row.requests, say: whole, tick: short },
  { name: "tokens", title: "Tokens", of: (row) => row.tokens, say: whole, tick: short },
  { name: "cost", title: "Cost", of: (row) => row.cost, say: money, tick: (n) => "$" + short(n) },
  { name: "errors", title: "Errors", of: (row) => sum(Object.values(row.errors)), say: whole, tick: short },
  { name: "switches", title: "Switches away", of: (row) => row.switches, say: whole, tick: short },
];

/** An element with attributes, in its parent. */
function add(parent, name, attributes = {}, text = "") {
  const element = parent instanceof SVGElement || name === "svg"
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

/** A round number at or above the highest, and how it is parted. */
function scale(highest) {
  const power = 10 ** Math.floor(Math.log10(highest || 1));
  const top = [1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].map((n) => n * power).find((n) => n >= highest);
  const parts = Number.isInteger(highest) && top % 2 ? 1 : 2; // nobody counts halves
  return { top, ticks: parts === 1 ? [0, top] : [0, top / 2, top] };
}

/** What one chart shows: for each bar, how much each provider did. */
function series(chart, per) {
  const bars = Array.from({ length: Math.ceil(buckets.length / per) }, () => ({}));
  usage.rows.forEach((row, n) => {
    const bar = bars[Math.floor(places[n] / per)];
    bar[row.provider] = (bar[row.provider] || 0) + chart.of(row);
  });
  return bars;
}

const label = (bar, per) => {
  const last = Math.min((bar + 1) * per, buckets.length) - 1;
  return per === 1 ? buckets[bar].long : `${buckets[bar * per].long} – ${buckets[last].long}`;
};

/** Times below a chart: so many that there is room for them, and at round ones. */
function axis(svg, width, left, height) {
  const step = (width - left) / buckets.length;
  const days = usage.bucket === "day";
  const room = Math.max(2, Math.floor((width - left) / 64));
  const every = (days ? [1, 2, 7, 14, 28] : [1, 2, 3, 6, 12, 24, 48, 168, 336, 672]).find(
    (n) => buckets.length / n <= room || n > 600) || 28;
  const first = days ? 0 : Math.max(0, buckets.findIndex((bucket) => bucket.hour % Math.min(every, 24) === 0));
  for (let n = first; n < buckets.length; n += every) {
    const x = left + (n + (days ? 0.5 : 0)) * step;
    const half = days ? 22 : 0;
    if (x - half < left - 8 || x + (half || 44) > width + 8) continue;
    if (!days) add(svg, "line", { class: "base", x1: x, x2: x, y1: height, y2: height + 4 });
    add(svg, "text", { x, y: height + 16, "text-anchor": days ? "middle" : "start" }, buckets[n].short);
  }
}

/** The room for the numbers beside a chart. */
const gutter = (chart, ticks) => 8 + 6.5 * Math.max(...ticks.map((n) => chart.tick(n).length));

function bars(figure, chart, width) {
  const svg = add(figure, "svg", { height: HEIGHT + BELOW, role: "img", "aria-label": chart.title });
  const per = Math.max(1, Math.ceil((buckets.length * LEAST) / (width - 40)));
  const data = series(chart, per);
  const { top, ticks } = scale(Math.max(...data.map((bar) => sum(Object.values(bar)))));
  const y = (n) => HEIGHT - (n / top) * (HEIGHT - 12);
  const left = gutter(chart, ticks);
  for (const n of ticks) {
    add(svg, "line", { class: n ? "grid" : "base", x1: left, x2: width, y1: y(n), y2: y(n) });
    add(svg, "text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, chart.tick(n));
  }
  const step = (width - left) / (buckets.length / per);
  const gap = Math.min(4, step * 0.2);
  const mark = add(svg, "rect", { class: "at", y: 0, width: step, height: HEIGHT, visibility: "hidden" });
  data.forEach((bar, n) => {
    let below = 0;
    for (const provider of providers) {
      const amount = bar[provider] || 0;
      if (!amount) continue;
      const [from, to] = [y(below), y(below + amount)];
      const x = left + n * step + gap / 2;
      const place = { x, y: to, width: Math.min(step - gap, width - x), height: Math.max(0.5, from - to) };
      add(svg, "rect", { class: "bar", fill: colour(provider), ...place });
      below += amount;
    }
  });
  axis(svg, width, left, HEIGHT);
  hover(svg, mark, (x) => {
    const n = Math.floor((x - left) / step);
    if (n < 0 || n >= data.length) return null;
    const lines = providers.filter((p) => data[n][p]).map((p) => [p, chart.say(data[n][p]), colour(p)]);
    return { x: left + n * step, title: label(n, per), lines: lines.length ? lines : [["nothing", ""]] };
  });
  return left;
}

/** When each provider could not serve: a lane each, on the axis of time of the chart above. */
function lanes(figure, width, left) {
  const rows = providers.filter((provider) => rests.some((rest) => rest.provider === provider));
  if (!rows.length) {
    add(figure, "p", { class: "none" }, "None.");
    return;
  }
  const height = rows.length * (LANE + 20);
  const svg = add(figure, "svg", { height: height + BELOW, role: "img", "aria-label": "Cooldowns" });
  const x = (at) => left + (Math.max(0, at - start) / (end - start)) * (width - left);
  rows.forEach((provider, n) => {
    const y = n * (LANE + 20) + 14;
    add(svg, "text", { x: left, y: y - 4 }, provider);
    add(svg, "rect", { class: "lane", x: left, y, width: width - left, height: LANE });
    for (const rest of rests.filter((one) => one.provider === provider)) {
      const long = Math.max(1, x(rest.until) - x(rest.since));
      const band = { x: x(rest.since), y, width: long, height: LANE, fill: colour(provider) };
      add(svg, "rect", { class: "band", ...band });
    }
  });
  axis(svg, width, left, height);
  const mark = add(svg, "rect", { class: "at", y: 0, width: 1, height, visibility: "hidden" });
  hover(svg, mark, (at, down) => {
    const provider = rows[Math.floor(down / (LANE + 20))];
    const near = rests.filter((r) => r.provider === provider && x(r.since) - 3 <= at && at <= x(r.until) + 3);
    const rest = near.at(-1);
    return rest && { x: at, title: rest.span, lines: [[rest.why, "", colour(rest.provider)]] };
  });
}

const tip = document.getElementById("tip");

/** Tell what is under the pointer: `find` gives its place, a title and lines of (name, number, colour). */
function hover(svg, mark, find) {
  const hide = () => {
    tip.hidden = true;
    mark.setAttribute("visibility", "hidden");
  };
  svg.addEventListener("pointerleave", hide);
  for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, (event) => {
    const box = svg.getBoundingClientRect();
    const found = find(event.clientX - box.left, event.clientY - box.top);
    if (!found) return hide();
    mark.setAttribute("x", found.x);
    mark.setAttribute("visibility", "visible");
    tip.replaceChildren();
    add(tip, "b", {}, found.title);
    for (const [name, number, fill] of found.lines) {
      const line = add(tip, "div");
      const what = add(line, "span");
      if (fill) add(what, "i").style.background = fill;
      what.append(name);
      add(line, "span", {}, number);
    }
    tip.hidden = false;
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = Math.max(8, Math.min(room, event.clientX + 14)) + "px";
    tip.style.top = event.clientY + window.scrollY - tip.offsetHeight - 12 + "px";
  });
}

function draw() {
  const charts = document.getElementById("charts");
  charts.replaceChildren();
  tip.hidden = true;
  if (!usage.rows.length) return;
  for (const chart of CHARTS) {
    const figure = add(charts, "figure", { id: chart.name, class: chart.name === "requests" ? "wide" : "" });
    const total = sum(usage.rows.map(chart.of));
    const caption = add(figure, "figcaption", {}, chart.title + " ");
    add(caption, "span", {}, chart.say(total));
    const left = total ? bars(figure, chart, figure.clientWidth) : 0;
    if (!total) add(figure, "p", { class: "none" }, "None.");
    if (chart.name === "requests") {
      const below = add(charts, "figure", { id: "cooldowns", class: "wide" });
      add(below, "figcaption", {}, "Cooldowns and used-up limits");
      lanes(below, below.clientWidth, left);
    }
  }
}

for (const provider of providers) {
  const item = add(document.getElementById("legend"), "li");
  add(item, "i").style.background = colour(provider);
  item.append(provider);
}
let width = 0;
function fit() {
  const room = document.getElementById("charts").clientWidth;
  if (room === width) return;
  width = room;
  draw();
}
fit();
new ResizeObserver(fit).observe(document.getElementById("charts"));
