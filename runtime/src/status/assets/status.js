// The live part of the status page: fetches the figures each second and draws what changed.
// Counters come as totals; everything shown is a difference between two of them.
"use strict";

const PERIOD_MS = 1000;
const WINDOW = 10; // Seconds that figures and quantiles are taken over.
const HISTORY = 180; // Readings kept for the charts,
const SHORTEST = 60; // which show this many from the beginning.
const COLOURS = 8;

const seen = []; // { at: milliseconds, data }
const points = []; // What the charts show, one per reading after the first.
let began = null; // Of the server: after a restart the counters begin anew.
let paused = false;
let failures = 0;

const byId = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function number(value, digits) {
  if (value === null || !Number.isFinite(value)) return "–";
  const places = digits ?? (Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function percent(value, digits = 1) {
  if (value === null || !Number.isFinite(value)) return "–";
  // 99.96 % must not be shown as 100 %.
  const scale = 100 * 10 ** digits;
  const floor = Math.floor(value * scale + 1e-9) / (scale / 100);
  return `${number(floor, digits)} %`;
}

function bytes(value) {
  if (value === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at + 1 < units.length) { value /= 1024; at += 1; }
  return `${number(value, value < 10 && at > 0 ? 1 : 0)} ${units[at]}`;
}

function span(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

// A quantile of cumulative counts, linear within its bucket; above the last edge it is that edge.
function quantile(edges, counts, share) {
  const total = counts[counts.length - 1];
  if (!(total > 0)) return null;
  const rank = share * total;
  let below = 0;
  let edgeBelow = 0;
  for (let at = 0; at < edges.length; at += 1) {
    if (counts[at] >= rank) {
      return edgeBelow + ((rank - below) / Math.max(counts[at] - below, 1e-9)) * (edges[at] - edgeBelow);
    }
    below = counts[at];
    edgeBelow = edges[at];
  }
  return edgeBelow;
}

const grown = (before, after) => Math.max(0, after - (before ?? 0));
const sum = (values) => values.reduce((total, value) => total + value, 0);

// What happened between two readings.
function between(before, after) {
  const seconds = Math.max(after.data.uptime_s - before.data.uptime_s, 1e-3);
  const earlier = new Map(before.data.paths.map((path) => [path.name, path]));
  const paths = after.data.paths.map((path) => {
    const old = earlier.get(path.name);
    const inTime = grown(old?.in_time, path.in_time);
    const late = grown(old?.late, path.late);
    const latency = path.latency.map((count, at) => grown(old?.latency[at], count));
    return {
      ...path, inTime, answered: inTime + late, counts: latency,
      correct: grown(old?.correct_in_time, path.correct_in_time),
      downgradedNow: grown(old?.downgraded, path.downgraded),
      load: path.workers > 0 ? grown(old?.batch_s, path.batch_s) / (seconds * path.workers) : null,
    };
  });
  const refused = Object.fromEntries(
    Object.entries(after.data.refused).map(([reason, count]) => [reason, grown(before.data.refused[reason], count)]));
  const errors = Object.fromEntries(
    Object.entries(after.data.errors).map(([code, count]) => [code, grown(before.data.errors[code], count)]));
  const answered = sum(paths.map((path) => path.answered));
  const refusals = sum(Object.values(refused));
  const counts = paths.length ? paths[0].counts.map((_, at) => sum(paths.map((path) => path.counts[at]))) : [];
  const offered = answered + refusals;
  return {
    seconds, paths, refused, errors, answered, refusals, counts,
    inTime: offered > 0 ? sum(paths.map((path) => path.inTime)) / offered : null,
    correct: sum(paths.map((path) => path.correct)),
    downgraded: sum(paths.map((path) => path.downgradedNow)),
  };
}

// Rows are kept and their cells written only where they differ, so that a screen reader or a
// selection inside a table is not thrown out every second.
function rows(table, entries, makeCells) {
  const body = byId(table).tBodies[0];
  entries.forEach((entry, at) => {
    const row = body.rows[at] ?? body.insertRow();
    makeCells(entry).forEach((cell, column) => {
      const { text = "", kind = "td", name = "", node = null, colour = null } = cell;
      let place = row.cells[column];
      if (!place) {
        place = document.createElement(kind);
        if (kind === "th") place.scope = "row";
        row.append(place);
      }
      if (place.className !== name) place.className = name;
      if (node) { place.replaceChildren(node); return; }
      const wanted = `${colour ?? ""}|${text}`;
      if (place.dataset.shown === wanted) return;
      place.dataset.shown = wanted;
      place.replaceChildren(...(colour === null ? [] : [swatch(colour)]), text);
    });
  });
  while (body.rows.length > entries.length) body.deleteRow(-1);
}

function swatch(colour) {
  const made = element("span", { className: "key", "aria-hidden": "true" });
  // A style set by script is not inline style to the content security policy.
  made.style.background = `var(--c${colour % COLOURS})`;
  return made;
}

// From p50 to p99 on a scale that ends at twice the SLA.
function range(path, edges, sla) {
  const p50 = quantile(edges, path.counts, 0.5);
  const p99 = quantile(edges, path.counts, 0.99);
  const scale = (ms) => 100 * Math.min(1, ms / (2 * sla));
  const parts = [shape("rect", { class: "track", x: 0, y: 7, width: 100, height: 4 })];
  let label = "nothing answered";
  if (p50 !== null) {
    const from = scale(p50);
    parts.push(shape("rect", { class: p99 > sla ? "span over" : "span", x: from, y: 4, width: Math.max(1.5, scale(p99) - from), height: 10 }));
    label = `p50 ${number(p50)} ms, p99 ${number(p99)} ms, SLA ${number(sla)} ms`;
  }
  parts.push(shape("line", { class: "sla", x1: 50, x2: 50, y1: 0, y2: 18, "vector-effect": "non-scaling-stroke" }));
  return shape("svg", { class: "range", viewBox: "0 0 100 18", preserveAspectRatio: "none", role: "img", "aria-label": label }, ...parts);
}

function nice(most) {
  if (!(most > 0)) return 1;
  const base = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * base).find((step) => step >= most);
}

// A chart of the readings so far: `series` are { name, colour, values, dash? }, oldest first.
function chart(place, series, { stacked = false, most = null, format = number, summary }) {
  const length = Math.max(...series.map((one) => one.values.length), 2);
  const shown = Math.max(SHORTEST, length);
  const x = (at) => (100 * (shown - length + at)) / (shown - 1);
  const top = most ?? nice(Math.max(...series.flatMap((one) => one.values.filter(Number.isFinite)), 0));
  const y = (value) => 100 - (100 * Math.min(value, top)) / top;
  const parts = [0, 50, 100].map((at) => shape("line", { class: "axis", x1: 0, x2: 100, y1: at, y2: at }));
  if (stacked) {
    let base = series[0]?.values.map(() => 0) ?? [];
    for (const one of series) {
      const upper = base.map((value, at) => value + one.values[at]);
      const there = upper.map((value, at) => `${x(at)},${y(value)}`);
      const back = base.map((value, at) => `${x(at)},${y(value)}`).reverse();
      if (there.length > 1) {
        const area = shape("polygon", { points: [...there, ...back].join(" ") });
        area.style.fill = `var(--c${one.colour % COLOURS})`;
        parts.push(area);
      }
      base = upper;
    }
  } else {
    for (const one of series) {
      let path = "";
      let pen = false;
      one.values.forEach((value, at) => {
        if (!Number.isFinite(value)) { pen = false; return; }
        path += `${pen ? "L" : "M"}${x(at).toFixed(2)} ${y(value).toFixed(2)}`;
        pen = true;
      });
      const line = shape("path", { class: one.dash ? "line dash" : "line", d: path });
      line.style.stroke = one.colour === null ? "var(--ink)" : `var(--c${one.colour % COLOURS})`;
      parts.push(line);
    }
  }
  const picture = shape("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": summary }, ...parts);
  const ticks = [[top, 0], [top / 2, 75], [0, 150]].map(([value, at]) => {
    const tick = element("span", { className: "tick", "aria-hidden": "true" }, format(value));
    tick.style.top = `${at}px`;
    return tick;
  });
  const keys = element("ul", { className: "keys" }, ...series.map((one) =>
    element("li", {}, one.colour === null ? element("span", { "aria-hidden": "true" }, "┄ ") : swatch(one.colour), one.name)));
  const when = element("div", { className: "when", "aria-hidden": "true" }, element("span", {}, `${span(shown * PERIOD_MS / 1000)} ago`), element("span", {}, "now"));
  byId(place).replaceChildren(element("div", { className: "plot" }, picture, ...ticks), when, keys);
}

function figures(entries) {
  const list = byId("figures");
  entries.forEach(([name, value, note, alarm], at) => {
    let entry = list.children[at];
    if (!entry) {
      entry = element("div", {}, element("dt", {}, name), element("dd", {}, element("span"), element("small")));
      list.append(entry);
    }
    entry.className = alarm ? "alarm" : "";
    const [main, small] = entry.querySelectorAll("dd > *");
    if (main.textContent !== value) main.textContent = value;
    if (small.textContent !== note) small.textContent = note;
  });
}

function state(text, kind) {
  const badge = byId("state");
  // A live region speaks when its text changes; it changes only with the state.
  if (badge.textContent !== text) badge.textContent = text;
  badge.className = `badge ${kind}`;
}

function draw() {
  const now = seen[seen.length - 1];
  const data = now.data;
  const then = seen[Math.max(0, seen.length - 1 - WINDOW)];
  const view = between(then, now);
  const sla = data.slas_ms[0] ?? 10;
  const model = data.models.map((one) => `${one.name} version ${one.version}`).join(", ");
  byId("model").textContent = model;
  document.title = data.ready ? "mprec status" : "not ready – mprec status";
  const down = data.paths.filter((path) => path.up === false);
  if (!data.ready) state("Not ready", "bad");
  else if (down.length) state(`Ready, ${down.length} of ${data.paths.length} paths down`, "warn");
  else state("Ready", "good");
  byId("window").textContent = String(Math.max(1, Math.round(view.seconds)));

  const p99 = quantile(data.edges_ms, view.counts, 0.99);
  const rate = (count) => count / view.seconds;
  figures([
    ["Goodput", number(rate(view.correct), 0), "correct in time/s", false],
    ["In time", percent(view.inTime), "of all queries", view.inTime !== null && view.inTime < 0.99],
    ["p99", p99 === null ? "–" : `${number(p99)} ms`, `SLA ${number(sla)} ms`, p99 !== null && p99 > sla],
    ["Queries", number(rate(view.answered), 1), "answered/s", false],
    ["Refused", number(rate(view.refusals), 1), "queries per second", view.refusals > 0],
    ["Downgraded", number(rate(view.downgraded), 1), "queries per second", false],
    ["Waiting", number(sum(data.paths.map((path) => path.queued)), 0), `queries; ${data.in_flight} in flight`, false],
    ["Processor", percent(data.machine.cpu_utilization, 0), "of the machine", false],
    ["Memory", bytes(data.machine.process_memory), `of ${bytes(data.machine.memory_total)}`, false],
  ]);

  rows("paths", view.paths, (path) => {
    const at = view.paths.indexOf(path);
    const ms = (share) => quantile(data.edges_ms, path.counts, share);
    const [p50, p95, p99] = [0.5, 0.95, 0.99].map(ms);
    const late = (value) => (value !== null && value > sla ? "n over" : "n");
    const health = path.up === null ? ["Unknown", "idle"] : path.up ? ["Up", "good"] : ["Down", "bad"];
    return [
      { text: path.name, kind: "th", colour: at },
      { node: element("span", { className: `badge ${health[1]}` }, health[0]) },
      { node: range(path, data.edges_ms, sla), name: "wide" },
      { text: number(p50), name: late(p50) },
      { text: number(p95), name: late(p95) },
      { text: number(p99), name: late(p99) },
      { text: percent(path.answered > 0 ? path.inTime / path.answered : null), name: "n" },
      { text: number(rate(path.answered), 1), name: "n" },
      { text: percent(view.answered > 0 ? path.answered / view.answered : null), name: "n" },
      { text: path.accuracy > 0 ? number(path.accuracy, 4) : "–", name: "n" },
      { text: number(path.queued, 0), name: "n" },
      { text: percent(path.load, 0), name: "n" },
      { text: path.correction > 0 ? `×${number(path.correction, 2)}` : "–", name: "n" },
    ];
  });

  const last = points[points.length - 1];
  chart("goodput", [{ name: "correct in time per second", colour: 2, values: points.map((point) => point.correct) }], {
    format: (value) => number(value, value >= 10 || value === 0 ? 0 : 1),
    summary: `Goodput over the last minutes, now ${number(last?.correct ?? 0, 0)} per second`,
  });
  chart("latency", [
    { name: "p50", colour: 0, values: points.map((point) => point.p50) },
    { name: "p99", colour: 1, values: points.map((point) => point.p99) },
    { name: "SLA", colour: null, dash: true, values: points.map(() => sla) },
  ], {
    most: nice(1.25 * Math.max(sla, ...points.map((point) => point.p99 ?? 0))),
    format: (value) => number(value, value >= 10 || value === 0 ? 0 : 1),
    summary: `Latency over the last minutes, p99 now ${number(last?.p99 ?? null)} of ${number(sla)} milliseconds`,
  });
  chart("mix", view.paths.map((path, at) => ({
    name: path.name, colour: at, values: points.map((point) => point.mix.get(path.name) ?? 0),
  })), {
    stacked: true, most: 1, format: (value) => percent(value, 0),
    summary: `Path mix now: ${view.paths.map((path) => `${path.name} ${percent(view.answered > 0 ? path.answered / view.answered : null, 0)}`).join(", ")}`,
  });

  const reasons = [
    ...Object.entries(data.refused).map(([reason, count]) => [`refused: ${reason}`, view.refused[reason], count]),
    ["cancelled by the client", grown(then.data.cancelled, data.cancelled), data.cancelled],
    // A refusal ends its request with an error of its own, and is not to be listed twice.
    ...Object.entries(data.errors)
      .filter(([code]) => !["overloaded", "quality_unreachable", "weights_unsupported", "deadline_passed", "unavailable", "path_failed", "cancelled"].includes(code))
      .map(([code, count]) => [`error: ${code}`, view.errors[code], count]),
  ];
  rows("reasons", reasons, ([name, count, total]) => [
    { text: name.replaceAll("_", " "), kind: "th", name: total > 0 ? "" : "none" },
    { text: number(rate(count), 1), name: total > 0 ? "n" : "n none" },
    { text: number(total, 0), name: total > 0 ? "n" : "n none" },
  ]);
  const recent = data.recent.length ? data.recent : [null];
  rows("recent", recent, (one) => one === null
    ? [{ text: "–", name: "n" }, { text: "none" }, { text: "nothing was refused lately" }]
    : [{ text: span(one.age_s), name: "n" }, { text: one.reason.replaceAll("_", " ") }, { text: one.message }]);
  rows("settings", data.settings, ([key, value]) => [{ text: key, kind: "th" }, { text: value }]);
  const recording = data.recording === null ? "" : data.recording ? " · recording decisions" : " · the recording of decisions has ended";
  byId("server").textContent = `mprec ${data.version} · up ${span(data.uptime_s)} · ${data.connections} connections${recording}`;
}

function take(data) {
  const now = { at: Date.now(), data };
  const previous = seen[seen.length - 1];
  if (previous && data.uptime_s < previous.data.uptime_s) {
    seen.length = 0; // Another process answers: its counters began anew.
  }
  if (previous && seen.length && data.uptime_s === previous.data.uptime_s) return; // The same reading again.
  seen.push(now);
  while (seen.length > WINDOW + 1) seen.shift();
  if (seen.length > 1) {
    const view = between(seen[seen.length - 2], now);
    points.push({
      correct: view.correct / view.seconds,
      p50: quantile(data.edges_ms, view.counts, 0.5),
      p99: quantile(data.edges_ms, view.counts, 0.99),
      mix: new Map(view.paths.map((path) => [path.name, view.answered > 0 ? path.answered / view.answered : 0])),
    });
    while (points.length > HISTORY) points.shift();
  }
  draw();
  byId("live").hidden = false;
  byId("pause").hidden = false;
}

async function tick() {
  if (!paused && !document.hidden) {
    try {
      const reply = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(5 * PERIOD_MS) });
      if (!reply.ok) throw new Error(`status ${reply.status}`);
      take(await reply.json());
      failures = 0;
    } catch (error) {
      failures += 1;
      if (failures >= 2) state("The server does not answer", "bad");
      if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.error(error);
    }
  }
  setTimeout(tick, failures > 5 ? 5 * PERIOD_MS : PERIOD_MS);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) state("Paused", "idle");
});
tick();
