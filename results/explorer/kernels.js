// A model of kernels: a point of the field, with distances in mm, to a latent and to a kernel [C, K, K].

// Every channel [K, K] of light divided by its sum.
function unitSum(light, channels) {
  const size = light.length / channels;
  for (let c = 0; c < channels; c++) {
    let total = 0;
    for (let i = c * size; i < (c + 1) * size; i++) total += light[i];
    for (let i = c * size; i < (c + 1) * size; i++) light[i] /= total;
  }
  return light;
}

// Components [R, F] weighted by scores, and their mean; F are upper halves where kernels are mirrored.
function expand(x, { mean, components, scale }, { channels, mirrored, spread }) {
  const light = Float32Array.from(mean.data), factor = spread ?? (scale ? scale.data[0] : 1), size = light.length;
  for (let r = 0; r < components.shape[0]; r++) {
    const score = x.data[r] * factor, row = r * size;
    for (let i = 0; i < size; i++) light[i] += score * components.data[row + i];
  }
  const side = Math.round(Math.sqrt((size / channels) * (mirrored ? 2 : 1)));
  if (!mirrored) return value(light, [channels, side, side]);
  const whole = new Float32Array(2 * size), half = (side * side) / 2;
  for (let c = 0; c < channels; c++)
    for (let row = 0; row < side; row++) {
      const from = c * half + Math.min(row, side - 1 - row) * side;
      whole.set(light.subarray(from, from + side), (c * side + row) * side);
    }
  return value(whole, [channels, side, side]);
}

// Weights of the four samples about a place between the second and the third (Keys 1981, a = -0.75 as in PyTorch).
function cubic(t) {
  const near = (s) => (1.25 * s - 2.25) * s * s + 1, far = (s) => -0.75 * (((s - 5) * s + 8) * s - 4);
  return [far(1 + t), near(t), near(1 - t), far(2 - t)];
}

// Smooth kernels [C, M, M] of the +x axis turned to an azimuth, and pooled to `px` by weights [px, M].
function turn(x, { w }, { px }, _, { azimuth }) {
  const [channels, m] = x.shape, cos = Math.cos(azimuth), sin = Math.sin(azimuth), turned = new Float32Array(x.data.length);
  for (let row = 0; row < m; row++)
    for (let column = 0; column < m; column++) {
      const right = (2 * column + 1) / m - 1, up = 1 - (2 * row + 1) / m;
      const at = [((cos * right + sin * up + 1) * m - 1) / 2, ((sin * right - cos * up + 1) * m - 1) / 2];
      const [left, top] = at.map(Math.floor), across = cubic(at[0] - left), down = cubic(at[1] - top);
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let j = 0; j < 4; j++) {
          const y = top + j - 1;
          if (y < 0 || y >= m) continue;
          for (let i = 0; i < 4; i++) {
            const place = left + i - 1;
            if (place >= 0 && place < m) sum += down[j] * across[i] * x.data[(c * m + y) * m + place];
          }
        }
        turned[(c * m + row) * m + column] = sum;
      }
    }
  const light = new Float32Array(channels * px * px), rows = new Float32Array(px * m);
  for (let c = 0; c < channels; c++) {
    rows.fill(0);
    for (let row = 0; row < px; row++)
      for (let k = 0; k < m; k++)
        for (let column = 0; column < m; column++) rows[row * m + column] += w.data[row * m + k] * turned[(c * m + k) * m + column];
    for (let row = 0; row < px; row++)
      for (let column = 0; column < px; column++) {
        let sum = 0;
        for (let k = 0; k < m; k++) sum += rows[row * m + k] * w.data[column * m + k];
        light[(c * px + row) * px + column] = Math.max(0, sum);
      }
  }
  return value(unitSum(light, channels), [channels, px, px]);
}

// The nearest kernels that are not negative and of unit sum, whose faintest pixels fade (trainables/asbuilt/simplex.py).
function cleanKernels(x, _, { faint }) {
  const channels = x.shape[0], light = unitSum(Float32Array.from(x.data), channels), size = light.length / channels;
  for (let c = 0; c < channels; c++) {
    const one = light.subarray(c * size, (c + 1) * size);
    let level = 0;
    for (let step = 0; step < 5; step++) {
      let above = 0, count = 0;
      for (const v of one) if (v > level) (above += v - level), count++;
      level += (above - 1) / Math.max(1, count);
    }
    const dark = faint * one.reduce((most, v) => Math.max(most, v - level), 0);
    for (let i = 0; i < size; i++) {
      const v = Math.max(0, one[i] - level);
      one[i] = v * (1 - Math.exp(-((v / dark) ** 2)));
    }
  }
  return value(unitSum(light, channels), x.shape);
}

function unitNorm(x) {
  const norm = Math.sqrt(x.data.reduce((sum, v) => sum + v * v, 0));
  return mapped(x, (v) => v / norm);
}

const KERNEL_OPS = {
  ...OPS,
  softplus_kernels: (x, _, { shape }) => value(unitSum(x.data.map(softplus), shape[0]), shape),
  clamp_kernels: (x) => value(unitSum(x.data.map((v) => Math.max(0, v)), x.shape[0]), x.shape),
  unit_norm: unitNorm,
  expand,
  turn,
  clean_kernels: cleanKernels,
};

const diopters = (mm) => 1000 / Math.abs(mm);
const scaled = (mm, [low, high]) => (2 * (diopters(mm) - low)) / (high - low) - 1;

// A point as the networks' condition: scaled coordinates, then their sines and cosines.
function codeOf(point, { vergence, bands, defocus, turned }) {
  let conditions = [point[0], point[1]];
  if (turned) conditions = [(2 * Math.hypot(point[0], turned.aspect * point[1])) / turned.farthest - 1];
  conditions.push(...vergence.map((range, i) => scaled(point[2 + i], range)));
  if (defocus) {
    const [[low, high], [lowest, highest]] = vergence, least = low - highest, most = high - lowest;
    conditions.push((2 * (diopters(point[2]) - diopters(point[3]) - least)) / (most - least) - 1);
  }
  // In float32, as PyTorch has them: the highest bands' angles are hundreds of turns.
  const angles = conditions.flatMap((c) => Array.from({ length: bands }, (_, k) => Math.fround(Math.fround(c) * Math.fround(Math.PI * 2 ** k))));
  return Float32Array.from([...conditions, ...angles.map(Math.sin), ...angles.map(Math.cos)]);
}

// Pixels [C, K, K] mirrored across the axes whose sign is negative.
function flippedPixels(x, K, [right, up]) {
  const out = new Float32Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const column = i % K, row = Math.floor(i / K) % K, rest = i - row * K - column;
    out[rest + (up < 0 ? K - 1 - row : row) * K + (right < 0 ? K - 1 - column : column)] = x[i];
  }
  return out;
}

// `prior(point)` -> z, `predict(point, [z, ...])` -> kernel; several latents are those of a unit's mirror images.
function kernelModel(model, arrays) {
  const run = runner(arrays, KERNEL_OPS), mirrors = model.mirrors;
  const inputsOf = (z, code) => {
    const parts = { z, code, outer: [] };
    if (model.inputs.includes("outer")) for (const a of z) for (const b of code) parts.outer.push(a * b);
    return Float32Array.from(model.inputs.flatMap((name) => Array.from(parts[name])));
  };
  const valuesOf = (point, z, image) => {
    const flip = mirrors ? mirrors.flips[image] : [1, 1];
    const code = codeOf([flip[0] * point[0], flip[1] * point[1], ...point.slice(2)], model.code);
    const found = run(model.decoder, value(inputsOf(z, code))).data;
    if (!mirrors) return found;
    if (mirrors.pixels) return flippedPixels(found, model.shape[1], flip);
    const signs = arrays[mirrors.weights.signs].data.subarray(image * found.length);
    return found.map((v, i) => v * signs[i]);
  };
  return {
    prior: (point) => (model.prior ? run(model.prior, value(codeOf(point, model.code))).data : new Float32Array(model.latent)),
    predict: (point, latents) => {
      const several = latents.map((z, image) => valuesOf(point, z, image));
      const mean = several[0].map((_, i) => several.reduce((sum, one) => sum + one[i], 0) / several.length);
      const aspect = model.code.turned ? model.code.turned.aspect : 1;
      return run(model.output, value(mean), { azimuth: Math.atan2(aspect * point[1], point[0]) }).data;
    },
  };
}
