// The view of kernels over a field: a point to move, held-out kernels, the model's, and what optics asks of both.

const metres = (mm) => `${shown(Math.abs(mm) / 1000)} m`;
const wordsOf = (point, distances) => `(${point[0].toFixed(2)}, ${point[1].toFixed(2)})` + distances.map(({ name }, i) => `, ${name} ${metres(point[2 + i])}`).join("");

// Four pictures with captions and texts; returns the relative L2 error at the held-out position, null without one.
function kernelPictures(get, lens, point, close, here, there, channel, words, all) {
  const [channels, K] = lens.shape, truth = close && lens.trueKernel(close), peaks = truth && peaksOf(truth, channels);
  const picture = (name, pixels, caption, text) => {
    const canvas = get(name);
    canvas.parentElement.hidden = !pixels;
    if (!pixels) return;
    paint(canvas, pixels, K);
    canvas.setAttribute("aria-label", text);
    get(`${name}-said`).textContent = caption;
  };
  const coloured = (kernel, scale) => kernel && kernelColours(kernel, lens.shape, scale, channel), place = close ? words(close.point) : "";
  picture("here", coloured(here, here && peaksOf(here, channels)), `generated at the point ${words(point)}`, `PSF of the model at ${words(point)}, ${all}`);
  picture("true", coloured(truth, peaks), `ray-traced at ${place}`, `Ray-traced PSF at ${place}, ${all}`);
  picture("there", coloured(there, peaks), "generated at the same position", `PSF of the model at the same held-out position, ${all}`);
  if (!there) return picture("residual", null) ?? null;
  const rest = residual(there, truth, lens.shape, peaks, channel), most = Math.max(...rest.map(Math.abs)), limit = roundUp(most), error = relativeL2(there, truth);
  const caption = `difference, ±${shown(100 * limit)} % of the peak; relative L2 of all channels ${shown(error)}`;
  const text = `Difference of the two, at most ${shown(100 * most)} % of the peak; relative L2 error of all channels ${shown(error)}`;
  picture("residual", rest.map((v) => colour(RED_BLUE, 0.5 + (0.5 * v) / limit)), caption, text);
  return error;
}

// Encircled energy and MTF of the model's kernel and of the ray-traced one, either may be null.
function kernelCharts(get, own, traced, um, all) {
  const both = (part, kind) => [own && { kind: `model ${kind}`, points: own[part] }, traced && { kind: `traced ${kind}`, points: traced[part] }].filter(Boolean);
  const end = Math.max(...both("energy").map((one) => one.points.at(-1).at)), nyquist = both("sagittal")[0].points.at(-1).at, unit = um ? "um" : "px";
  chart(get("energy"), both("energy", ""), { end, title: `radius, ${unit}` });
  chart(get("mtf"), [...both("tangential", ""), ...both("sagittal", "thin")], { end: nyquist, title: um ? "line pairs per mm" : "cycles per pixel" });
  const half = (one) => (one ? `${shown(crossing(one.energy, 0.5))} ${unit}` : "not known");
  get("energy").setAttribute("aria-label", `Encircled energy, ${all}: half of the light is within ${half(own)} of the model's PSF, ${half(traced)} of the ray-traced one.`);
  const middle = (one) => (one ? `${shown(one.tangential[20].value)} tangential, ${shown(one.sagittal[20].value)} sagittal` : "not known");
  get("mtf").setAttribute("aria-label", `MTF, ${all}, at half the Nyquist frequency: model ${middle(own)}; ray-traced ${middle(traced)}.`);
}

function kernelNumbers(body, rows) {
  const cell = (v) => Object.assign(document.createElement("td"), { textContent: v === null ? "beyond Nyquist" : shown(v) });
  body.replaceChildren(...rows.map(([title, one]) => {
    const row = document.createElement("tr"), head = Object.assign(document.createElement("th"), { scope: "row", textContent: title });
    row.append(head, ...[one.radius, crossing(one.energy, 0.8), crossing(one.tangential, 0.5), crossing(one.sagittal, 0.5)].map(cell));
    return row;
  }));
}

// Sliders and choices; `changed(true)` where the map has to be filled anew.
function fieldControls(get, said, lens, state, changed) {
  const place = get("sliders"), coordinates = ["x", "y"].map((title, i) => slider(place, { id: `explorer-${title}`, title, min: -1, max: 1, step: 0.01, start: 0, words: (v) => v.toFixed(2) }, (v) => {
    state.point[i] = v;
    changed();
  }));
  // Even in vergence, in which defocus is linear.
  said.distances.forEach(({ name, vergence: [min, max] }, i) => {
    coordinates.push(slider(place, { id: `explorer-${name}`, title: name, min, max, step: (max - min) / 200, start: diopters(state.point[2 + i]), words: (v) => metres(1000 / v) }, (v) => {
      state.point[2 + i] = -1000 / v;
      changed(true);
    }));
  });
  if (said.channels.length > 1)
    choice(place, { id: "explorer-channel", title: "wavelength", options: ["all", ...said.channels] }, (index) => {
      state.channel = index ? index - 1 : null;
      changed();
    });
  const showLatents = () => (get("latents").hidden = get("reset").parentElement.hidden = !lens.hasSliders());
  if (said.sets.length > 1)
    choice(place, { id: "explorer-set", title: "unit", options: said.sets.map((one) => one.title) }, (index) => {
      state.set = index;
      showLatents();
      changed(true);
    });
  const moves = said.sliders.map((title, s) => slider(get("latents"), { id: `explorer-latent-${s}`, title, min: -3, max: 3, step: 0.1, start: 0, words: (v) => `${v > 0 ? "+" : ""}${v} sd` }, (v) => {
    state.moves[s] = v;
    changed();
  }));
  get("origin").textContent = `Steps from ${said.origin}, along what changes the PSF most.`;
  get("reset").addEventListener("click", () => {
    state.moves.fill(0);
    moves.forEach((one) => one.set(0));
    changed();
  });
  showLatents();
  return coordinates;
}

function view(root, said, arrays) {
  const get = (id) => root.querySelector(`#explorer-${id}`), { distances, pixel_um: um } = said;
  const state = { point: [0, 0], set: 0, channel: null, moves: said.sliders.map(() => 0) };
  state.point.push(...distances.map(({ vergence: [low, high] }) => -2000 / (low + high)));
  const lens = lensKernels(said, arrays, state), aspect = said.sensor_mm ? said.sensor_mm[1] / said.sensor_mm[0] : 1;
  const map = fieldMap(get("field"), lens, state, arrays.error.data, aspect), words = (point) => wordsOf(point, distances);
  get("low").textContent = shown(map.low, 2);
  get("high").textContent = shown(map.high, 2);
  root.querySelectorAll(".explorer-unit").forEach((one) => (one.textContent = um ? "um" : "px"));
  root.querySelectorAll(".explorer-rate").forEach((one) => (one.textContent = um ? "lp/mm" : "cycles/px"));
  const measured = (kernel, point) => kernel && measuredKernel(channelOf(kernel, lens.shape, state.channel), lens.shape[1], Math.atan2(aspect * point[1], point[0]), um);

  function render() {
    const point = state.point, close = lens.nearest(point), all = state.channel === null ? "all channels" : said.channels[state.channel];
    const here = lens.predict(point), there = close && lens.predict(close.point);
    const error = kernelPictures(get, lens, point, close, here, there, state.channel, words, all);
    const own = measured(here, point), traced = close && measured(lens.trueKernel(close), close.point);
    if (own || traced) kernelCharts(get, own, traced, um, all);
    kernelNumbers(get("numbers"), [["the model at the point", own], ["ray-traced, nearest", traced]].filter(([, one]) => one));
    const away = close && shown(Math.hypot(close.point[0] - point[0], close.point[1] - point[1]), 2);
    get("where").textContent = close
      ? `Point ${words(point)}. Nearest held-out position: ${words(close.point)}, ${away} away in x and y${error === null ? "" : `; relative L2 error there ${shown(error)}`}.`
      : `Point ${words(point)}. This unit was never traced: there is no true PSF.`;
    map.draw();
    return { error };
  }

  let due = false;
  function changed(mapToo = false) {
    if (mapToo) map.fill();
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      render();
    });
  }
  const coordinates = fieldControls(get, said, lens, state, changed);
  function go(point) {
    const mapToo = point.slice(2).some((v, i) => v !== state.point[2 + i]);
    state.point = point.map((v, i) => (i < 2 ? Math.min(1, Math.max(-1, v)) : v));
    coordinates.forEach((one, i) => one.set(i < 2 ? state.point[i] : diopters(state.point[i])));
    changed(mapToo);
  }
  moveOver(get("field"), lens, state, go);
  new ResizeObserver(() => map.draw()).observe(get("field").parentElement);
  map.fill();
  render();

  // For other scripts: kernels [C K K] of points, and a way to move the point.
  return { predict: (point) => Array.from(lens.predict(point)), go, render };
}
