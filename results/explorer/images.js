// The view of images: reconstructions, a latent to move, and samples of the prior.

const logit = (v, least) => {
  const p = Math.min(1 - least, Math.max(least, v));
  return Math.log(p / (1 - p));
};

// Means of the likelihoods (trainables/training/likelihoods.py); `raw` may have further parameters after its channels.
const ofChannels = (x, channels, f) => value(x.data.slice(0, (x.data.length / x.shape[0]) * channels).map(f), [channels, ...x.shape.slice(1)]);
const langevin = (h) => (Math.abs(h) < 0.25 ? h * (1 / 3 - h * h * (1 / 45 - (h * h * 2) / 945)) : 1 / Math.tanh(h) - 1 / h);
const IMAGE_OPS = {
  ...OPS,
  centre: (x, _, { channels }) => ofChannels(x, channels, (v) => 0.5 + v),
  sigmoid: (x, _, { channels }) => ofChannels(x, channels, sigmoid),
  langevin: (x, _, { channels }) => ofChannels(x, channels, (v) => 0.5 + 0.5 * langevin(v / 2)),
  // What probabilistic PCA says of z, in units of the raw output, added to its first channels.
  plus_linear: (x, { w, mean, eigenvalues, variance }, { logit: least }, _, z) => {
    const lengths = eigenvalues.data.map((v, i) => z[i] * Math.sqrt(Math.max(0, v - variance.data[0])));
    const images = linear(value(lengths), w, mean).data, out = Float32Array.from(x.data);
    images.forEach((v, i) => (out[i] += least === false ? v - 0.5 : logit(v, least)));
    return value(out, x.shape);
  },
};

// Standard normal numbers of a seed (mulberry32, Box and Muller 1958).
function normals(seed) {
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (((t ^ (t >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

function view(root, said, arrays) {
  const get = (id) => root.querySelector(`#explorer-${id}`);
  const [count, channels, H, W] = arrays.images.shape, size = channels * H * W, L = said.latent;
  const run = said.runs ? runner(arrays, IMAGE_OPS) : null;
  const state = { image: 0, moves: said.sliders.map(() => null), dimension: 0, step: null, temperature: said.temperatures.length - 1, seed: 0 };
  const part = (name, index) => Float32Array.from(arrays[name].data.subarray(index * size, (index + 1) * size), (v) => v / 255);

  // Mean image [C H W] of a latent [L].
  const decode = (z) => run(said.model.output, run(said.model.decoder, value(z), z), z).data.map((v) => Math.min(1, Math.max(0, v)));

  function picture(canvas, image, text) {
    paint(canvas, Array.from({ length: H * W }, (_, i) => [0, 1, 2].map((c) => 255 * image[(channels === 3 ? c : 0) * H * W + i])), W);
    canvas.setAttribute("aria-label", text);
  }

  function render() {
    const title = said.titles[state.image], own = Float32Array.from(arrays.mu.data.subarray(state.image * L, (state.image + 1) * L));
    picture(get("image"), part("images", state.image), `Test image, ${title}`);
    picture(get("decoded"), part("decoded", state.image), `The same image decoded, ${title}`);
    get("image-said").textContent = `image: ${title}`;
    get("decoded-said").textContent = "decoded";
    let words = "not moved", image = part("decoded", state.image);
    if (run) {
      state.moves.forEach((move, i) => move !== null && (own[said.sliders[i]] = move));
      const changed = state.moves.flatMap((move, i) => (move === null ? [] : [`z${said.sliders[i]} = ${shown(move)}`]));
      if (changed.length) [words, image] = [`moved: ${changed.join(", ")}`, decode(own)];
    } else if (state.step !== null) {
      const steps = arrays.strips.shape[2], at = -said.farthest + (2 * said.farthest * state.step) / (steps - 1);
      [words, image] = [`moved: z${said.sliders[state.dimension]} = ${shown(at)}`, part("strips", (state.image * said.sliders.length + state.dimension) * steps + state.step)];
    }
    picture(get("moved"), image, `Decoded, ${words}`);
    get("moved-said").textContent = words;
  }

  function samples() {
    const temperature = said.temperatures[state.temperature], draw = normals(state.seed), holder = get("samples");
    const shownThere = run ? count : arrays.samples.shape[1];
    holder.replaceChildren(...Array.from({ length: shownThere }, (_, i) => {
      const canvas = document.createElement("canvas");
      canvas.setAttribute("role", "img");
      const image = run ? decode(Float32Array.from({ length: L }, () => temperature * draw())) : part("samples", state.temperature * shownThere + i);
      picture(canvas, image, `Sample ${i + 1} of the prior at T = ${temperature}`);
      return canvas;
    }));
  }

  const place = get("sliders"), most = said.farthest, all = [], titles = said.titles.map((title, i) => `${i + 1}: ${title}`);
  if (run) {
    const start = (i) => Math.min(most, Math.max(-most, arrays.mu.data[state.image * L + said.sliders[i]]));
    choice(place, { id: "explorer-start", title: "start from", options: titles }, (index) => {
      state.image = index;
      reset();
    });
    said.sliders.forEach((dimension, i) => all.push(slider(place, { id: `explorer-latent-${i}`, title: `z${dimension}`, min: -most, max: most, step: 0.05, start: start(i), words: (v) => v.toFixed(2) }, (v) => {
      state.moves[i] = v;
      render();
    })));
    const reset = () => {
      state.moves.fill(null);
      all.forEach((one, i) => one.set(start(i)));
      render();
    };
    get("reset").addEventListener("click", reset);
  } else {
    const [starts, , steps] = arrays.strips.shape;
    choice(place, { id: "explorer-start", title: "start from", options: titles.slice(0, starts) }, (index) => {
      state.image = index;
      render();
    });
    choice(place, { id: "explorer-dimension", title: "dimension", options: said.sliders.map((one) => `z${one}`) }, (index) => {
      state.dimension = index;
      render();
    });
    all.push(slider(place, { id: "explorer-step", title: "value", min: 0, max: steps - 1, step: 1, start: (steps - 1) / 2, words: (v) => shown(-most + (2 * most * v) / (steps - 1)) }, (v) => {
      state.step = v;
      render();
    }));
    get("reset").addEventListener("click", () => {
      state.step = null;
      all[0].set((steps - 1) / 2);
      render();
    });
  }
  slider(get("temperature"), { id: "explorer-t", title: "T", min: 0, max: said.temperatures.length - 1, step: 1, start: state.temperature, words: (v) => `${said.temperatures[v]}` }, (v) => {
    state.temperature = v;
    samples();
  });
  if (run) {
    const button = Object.assign(document.createElement("button"), { type: "button", id: "explorer-draw", textContent: "Draw others" });
    button.addEventListener("click", () => {
      state.seed += 1;
      samples();
    });
    get("temperature").append(button);
  }
  render();
  samples();

  // For other scripts: mean images of latents.
  return { predict: (z) => Array.from(decode(Float32Array.from(z))), state, render };
}
