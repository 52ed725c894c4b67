"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  const theme = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const showTheme = () => theme.setAttribute("aria-pressed", String(isDark()));
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // What is wider than its place can be scrolled by keyboard too.
  const boxes = [...document.querySelectorAll(".scroll")];
  const reach = () => {
    for (const box of boxes) {
      const wide = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
      if (wide) {
        box.tabIndex = 0;
        box.setAttribute("role", "region");
        box.setAttribute("aria-label", box.dataset.name);
      } else {
        for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
      }
    }
  };
  new ResizeObserver(reach).observe(document.body);
  document.addEventListener("toggle", reach, true);
  reach();

  const data = byId("search");
  if (!data) return;
  const { axes, trials } = JSON.parse(data.textContent);
  const form = byId("filter");
  const [axis, from, to, state, pick] = ["axis", "from", "to", "state", "trial"].map(byId);
  const MOST = Number(from.max);
  const limits = axes.map(() => [0, 1]);
  const marks = new Map(trials.map((one) => [String(one.number), []]));
  for (const mark of document.querySelectorAll("[data-trial]")) marks.get(mark.dataset.trial)?.push(mark);
  const chart = document.querySelector(".brush").ownerSVGElement;
  const brushes = [...chart.querySelectorAll(".brush")];
  const top = brushes[0].y.baseVal.value;
  const length = brushes[0].height.baseVal.value;

  const shown = (value) => {
    if (Number.isInteger(value) && Math.abs(value) < 1e5) return String(value);
    const [digits, power] = value.toPrecision(4).split("e");
    const short = digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
    return Math.abs(value) < 1e-3 && value !== 0 ? value.toExponential(2) : power ? `${short}e${Number(power)}` : short;
  };
  // The text of an end of a filter; of whole numbers and choices the last one inside.
  const valueAt = (one, place, upper) => {
    if (one.kind === "choices") {
      const count = one.values.length;
      const index = upper ? Math.floor(place * count - 0.5) : Math.ceil(place * count - 0.5);
      return one.values[Math.min(count - 1, Math.max(0, index))];
    }
    let value = one.kind === "log" ? one.low * (one.high / one.low) ** place : one.low + place * (one.high - one.low);
    if (one.whole) value = upper ? Math.floor(value + 1e-9) : Math.ceil(value - 1e-9);
    return shown(value);
  };
  const narrowed = (index) => limits[index][0] > 0 || limits[index][1] < 1;
  const inside = (trial) =>
    (!state.value || trial.state === state.value) &&
    axes.every((_, index) => {
      const place = trial.places[index];
      const [low, high] = limits[index];
      return !narrowed(index) || (place !== null && place >= low - 1e-9 && place <= high + 1e-9);
    });

  const show = () => {
    const index = Number(axis.value);
    const [low, high] = limits[index];
    for (const [input, place, upper] of [[from, low, false], [to, high, true]]) {
      input.value = Math.round(place * MOST);
      const text = valueAt(axes[index], place, upper);
      input.setAttribute("aria-valuetext", text);
      byId(`${input.id}-value`).textContent = text;
    }
    brushes.forEach((brush, at) => {
      const [least, most] = limits[at];
      brush.classList.toggle("on", narrowed(at));
      brush.setAttribute("y", top + (1 - most) * length);
      brush.setAttribute("height", Math.max(2, (most - least) * length));
    });
    let count = 0;
    for (const trial of trials) {
      const on = inside(trial);
      count += on;
      for (const mark of marks.get(String(trial.number))) {
        mark.classList.toggle("off", !on);
        mark.classList.toggle("picked", pick.value === String(trial.number));
      }
    }
    const kept = axes.flatMap((one, at) =>
      narrowed(at) ? [`${one.name} ${valueAt(one, limits[at][0], false)} to ${valueAt(one, limits[at][1], true)}`] : []);
    if (state.value) kept.push(state.value);
    const picked = trials.find((one) => pick.value === String(one.number));
    byId("said").textContent =
      `${count} of ${trials.length} trials${kept.length ? `: ${kept.join(", ")}` : ""}.${picked ? ` ${picked.label}.` : ""}`;
  };
  const limit = (index, low, high) => {
    limits[index] = [Math.min(low, high), Math.max(low, high)];
    show();
  };

  from.addEventListener("input", () => limit(Number(axis.value), from.value / MOST, Math.max(from.value, to.value) / MOST));
  to.addEventListener("input", () => limit(Number(axis.value), Math.min(from.value, to.value) / MOST, to.value / MOST));
  for (const control of [axis, state, pick]) control.addEventListener("change", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    limits.forEach((_, index) => (limits[index] = [0, 1]));
    setTimeout(show); // once the browser has reset the controls
  });
  document.addEventListener("click", (event) => {
    const mark = event.target.closest?.("[data-trial]");
    if (!mark || !marks.has(mark.dataset.trial)) return;
    pick.value = pick.value === mark.dataset.trial ? "" : mark.dataset.trial;
    show();
  });

  const placeOf = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(chart.getScreenCTM().inverse());
    return Math.min(1, Math.max(0, 1 - (at.y - top) / length));
  };
  for (const grab of chart.querySelectorAll(".grab")) {
    const index = Number(grab.dataset.axis);
    let begun = null;
    grab.addEventListener("pointerdown", (event) => {
      begun = placeOf(event);
      grab.setPointerCapture(event.pointerId);
      axis.value = index;
    });
    grab.addEventListener("pointermove", (event) => {
      if (begun !== null) limit(index, begun, placeOf(event));
    });
    const end = (event) => {
      if (begun !== null && Math.abs(placeOf(event) - begun) < 0.01) limit(index, 0, 1); // a click: the whole axis
      begun = null;
    };
    grab.addEventListener("pointerup", end);
    grab.addEventListener("pointercancel", end);
  }
  show();
})();
