// Unpacks arrays and runs a network that is described as layers (trainables/networks/described.py).
// A value is {shape, data}; data is a Float32Array, the last dimension fastest.

const bytesOf = (text) => Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// All float16 numbers by their 16 bits.
function halfTable() {
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
    table[bits] = bits & 32768 ? -size : size;
  }
  return table;
}

// Arrays by name, of the index and the text that packing.py made.
async function unpack(index, text) {
  const bytes = await inflate(bytesOf(text)), half = halfTable(), arrays = {};
  let at = 0;
  const floats = (count) => {
    const part = new Float32Array(bytes.slice(at, at + 4 * count).buffer);
    at += 4 * count;
    return part;
  };
  for (const { name, kind, shape } of index) {
    const count = shape.reduce((a, b) => a * b, 1);
    let data;
    if (kind === "f32") data = floats(count);
    else if (kind === "u8") {
      data = bytes.subarray(at, at + count);
      at += count;
    } else if (kind === "f16") {
      data = new Float32Array(count);
      for (let i = 0; i < count; i++) data[i] = half[(bytes[at + i] << 8) | bytes[at + count + i]];
      at += 2 * count;
    } else {
      const rows = shape[0], columns = count / rows, low = floats(rows), step = floats(rows);
      const rest = at + count;
      data = new Float32Array(count);
      for (let row = 0, i = 0; row < rows; row++)
        for (let column = 0; column < columns; column++, i++) {
          const four = (bytes[rest + (i >> 1)] >> (i & 1 ? 0 : 4)) & 15;
          data[i] = low[row] + step[row] * ((bytes[at + i] << 4) | four);
        }
      at = rest + Math.ceil(count / 2);
    }
    arrays[name] = { shape, data };
  }
  return arrays;
}

const value = (data, shape = [data.length]) => ({ data, shape });
const mapped = (x, f) => value(x.data.map(f), x.shape);

function linear(x, w, b) {
  const [outputs, inputs] = w.shape, out = new Float32Array(outputs), v = x.data, m = w.data;
  for (let row = 0, start = 0; row < outputs; row++, start += inputs) {
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0, i = 0;
    for (; i + 3 < inputs; i += 4) {
      s0 += m[start + i] * v[i];
      s1 += m[start + i + 1] * v[i + 1];
      s2 += m[start + i + 2] * v[i + 2];
      s3 += m[start + i + 3] * v[i + 3];
    }
    for (; i < inputs; i++) s0 += m[start + i] * v[i];
    out[row] = s0 + s1 + s2 + s3 + (b ? b.data[row] : 0);
  }
  return value(out);
}

// [I, H, W] by weights [O, I, k, k].
function conv(x, w, b, { stride, padding }) {
  const [inputs, height, width] = x.shape, [outputs, , k] = w.shape;
  const rows = Math.floor((height + 2 * padding - k) / stride) + 1, columns = Math.floor((width + 2 * padding - k) / stride) + 1;
  const out = new Float32Array(outputs * rows * columns);
  for (let o = 0; o < outputs; o++) {
    if (b) out.fill(b.data[o], o * rows * columns, (o + 1) * rows * columns);
    for (let i = 0; i < inputs; i++)
      for (let ky = 0; ky < k; ky++)
        for (let kx = 0; kx < k; kx++) {
          const weight = w.data[((o * inputs + i) * k + ky) * k + kx];
          for (let row = 0; row < rows; row++) {
            const y = row * stride + ky - padding;
            if (y < 0 || y >= height) continue;
            const from = (i * height + y) * width + kx - padding, to = (o * rows + row) * columns;
            for (let column = 0; column < columns; column++) {
              const place = column * stride + kx - padding;
              if (place >= 0 && place < width) out[to + column] += weight * x.data[from + column * stride];
            }
          }
        }
  }
  return value(out, [outputs, rows, columns]);
}

// [I, H, W] by weights [I, O, k, k]; `more`: rows and columns added at the end.
function convTranspose(x, w, b, { stride, padding, more }) {
  const [inputs, height, width] = x.shape, [, outputs, k] = w.shape;
  const rows = (height - 1) * stride - 2 * padding + k + more, columns = (width - 1) * stride - 2 * padding + k + more;
  const out = new Float32Array(outputs * rows * columns);
  for (let o = 0; o < outputs; o++) {
    if (b) out.fill(b.data[o], o * rows * columns, (o + 1) * rows * columns);
    for (let i = 0; i < inputs; i++)
      for (let ky = 0; ky < k; ky++)
        for (let kx = 0; kx < k; kx++) {
          const weight = w.data[((i * outputs + o) * k + ky) * k + kx];
          for (let y = 0; y < height; y++) {
            const row = y * stride + ky - padding;
            if (row < 0 || row >= rows) continue;
            for (let c = 0; c < width; c++) {
              const column = c * stride + kx - padding;
              if (column >= 0 && column < columns) out[(o * rows + row) * columns + column] += weight * x.data[(i * height + y) * width + c];
            }
          }
        }
  }
  return value(out, [outputs, rows, columns]);
}

// x scaled channel by channel.
function perChannel(x, scale, shift) {
  const size = x.data.length / x.shape[0];
  return value(x.data.map((v, i) => v * scale[Math.floor(i / size)] + shift[Math.floor(i / size)]), x.shape);
}

function batchNorm(x, { w, b, mean, var: variance }, { eps }) {
  const scale = Array.from(variance.data, (v, c) => (w ? w.data[c] : 1) / Math.sqrt(v + eps));
  return perChannel(x, scale, scale.map((s, c) => (b ? b.data[c] : 0) - mean.data[c] * s));
}

function groupNorm(x, { w, b }, { eps, groups }) {
  const channels = x.shape[0], part = x.data.length / groups, scale = [], shift = [];
  for (let group = 0; group < groups; group++) {
    const values = x.data.subarray(group * part, (group + 1) * part);
    const mean = values.reduce((a, v) => a + v, 0) / part;
    const size = 1 / Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / part + eps);
    for (let c = (group * channels) / groups; c < ((group + 1) * channels) / groups; c++) {
      scale.push(size * w.data[c]);
      shift.push(b.data[c] - mean * size * w.data[c]);
    }
  }
  return perChannel(x, scale, shift);
}

// Twice the size, bilinear, as PyTorch does without aligned corners.
function twice(x) {
  const [channels, height, width] = x.shape, out = new Float32Array(4 * x.data.length);
  const place = (i, n) => {
    const at = Math.max(0, i / 2 - 0.25), low = Math.floor(at);
    return [low, Math.min(low + 1, n - 1), at - low];
  };
  for (let c = 0, i = 0; c < channels; c++)
    for (let y = 0; y < 2 * height; y++) {
      const [y0, y1, v] = place(y, height);
      for (let column = 0; column < 2 * width; column++, i++) {
        const [x0, x1, u] = place(column, width), at = (row, col) => x.data[(c * height + row) * width + col];
        out[i] = (1 - v) * ((1 - u) * at(y0, x0) + u * at(y0, x1)) + v * ((1 - u) * at(y1, x0) + u * at(y1, x1));
      }
    }
  return value(out, [channels, 2 * height, 2 * width]);
}

const softplus = (v) => (v > 20 ? v : Math.log1p(Math.exp(v)));
const sigmoid = (v) => 1 / (1 + Math.exp(-v));

// What layers do, by `op`: (value, weights by their short names, the layer, run of further layers) -> value.
const OPS = {
  linear: (x, { w, b }) => linear(x, w, b),
  silu: (x) => mapped(x, (v) => v * sigmoid(v)),
  leaky_relu: (x, _, { slope }) => mapped(x, (v) => (v < 0 ? slope * v : v)),
  shape: (x, _, { shape }) => value(x.data, shape),
  conv: (x, { w, b }, layer) => conv(x, w, b, layer),
  conv_transpose: (x, { w, b }, layer) => convTranspose(x, w, b, layer),
  batch_norm: batchNorm,
  group_norm: groupNorm,
  twice,
  residual: (x, _, { layers }, run) => {
    const branch = run(layers, x);
    return value(branch.data.map((v, i) => v + x.data[i]), x.shape);
  },
};

// A function that runs layers: (layers, value, context) -> value. Systems' own outputs read the context.
function runner(arrays, ops = OPS) {
  const run = (layers, x, context) =>
    layers.reduce((now, layer) => {
      const weights = Object.fromEntries(Object.entries(layer.weights || {}).map(([short, name]) => [short, arrays[name]]));
      return ops[layer.op](now, weights, layer, (more, y) => run(more, y, context), context);
    }, x);
  return run;
}
