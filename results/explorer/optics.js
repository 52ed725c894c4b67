// What optics asks of a kernel [K, K] of unit sum, and the colours that it is shown in.

// Centre of light in pixels from the kernel's centre: x right, y up.
function centroid(kernel, K) {
  let x = 0, y = 0, total = 0;
  kernel.forEach((v, i) => {
    x += v * ((i % K) - (K - 1) / 2);
    y -= v * (Math.floor(i / K) - (K - 1) / 2);
    total += v;
  });
  return [x / total, y / total];
}

// Root of the second moment about the centroid, in pixels.
function rmsRadius(kernel, K) {
  const [cx, cy] = centroid(kernel, K);
  let sum = 0, total = 0;
  kernel.forEach((v, i) => {
    sum += v * (((i % K) - (K - 1) / 2 - cx) ** 2 + ((K - 1) / 2 - Math.floor(i / K) - cy) ** 2);
    total += v;
  });
  return Math.sqrt(sum / total);
}

// Share of the light within radii of the centroid, from 0 to where all of it is: [{radius in pixels, share}].
// A pixel's light is spread evenly over 5 x 5 places in it.
function encircledEnergy(kernel, K, count = 60) {
  const [cx, cy] = centroid(kernel, K), parts = 5;
  const farthest = Math.hypot(K / 2 + Math.abs(cx), K / 2 + Math.abs(cy)), within = new Float64Array(count + 1);
  kernel.forEach((v, i) => {
    for (let a = 0; a < parts; a++)
      for (let b = 0; b < parts; b++) {
        const x = (i % K) - K / 2 + (a + 0.5) / parts, y = K / 2 - Math.floor(i / K) - (b + 0.5) / parts;
        within[Math.ceil((count * Math.hypot(x - cx, y - cy)) / farthest)] += v / parts ** 2;
      }
  });
  let sum = 0;
  const shares = Array.from(within, (v) => (sum += v));
  return shares.map((share, i) => ({ at: (i * farthest) / count, value: share / sum }));
}

// Contrast of stripes that change along a direction (radians from +x to +y), at 0 to half a cycle per pixel.
function mtf(kernel, K, direction, count = 40) {
  const cos = Math.cos(direction), sin = Math.sin(direction);
  return Array.from({ length: count + 1 }, (_, step) => {
    const frequency = (0.5 * step) / count;
    let real = 0, imaginary = 0, total = 0;
    kernel.forEach((v, i) => {
      const phase = 2 * Math.PI * frequency * (((i % K) - (K - 1) / 2) * cos - (Math.floor(i / K) - (K - 1) / 2) * sin);
      real += v * Math.cos(phase);
      imaginary += v * Math.sin(phase);
      total += v;
    });
    return { at: frequency, value: Math.hypot(real, imaginary) / total };
  });
}

function relativeL2(predicted, truth) {
  let error = 0, size = 0;
  truth.forEach((v, i) => {
    error += (predicted[i] - v) ** 2;
    size += v * v;
  });
  return Math.sqrt(error / size);
}

// Colour maps of matplotlib at even steps: inferno, and RdBu_r.
const INFERNO = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]];
const RED_BLUE = [[5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247], [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31]];

function colour(map, share) {
  const at = Math.min(Math.max(share, 0), 1) * (map.length - 1), low = Math.min(Math.floor(at), map.length - 2);
  return map[low].map((v, i) => v + (at - low) * (map[low + 1][i] - v));
}

// Displayed brightness is (value / peak)^GAMMA, as in the figures.
const GAMMA = 0.5;

// Pixels [K, K, RGB] of a kernel [C, K, K] in units of peaks [C]; `channel` alone, or all three as colours.
function kernelColours(kernel, [channels, K], peaks, channel) {
  const size = K * K, bright = (c, i) => Math.min(1, Math.max(0, kernel[c * size + i] / peaks[c])) ** GAMMA;
  return Array.from({ length: size }, (_, i) => {
    if (channel !== null) return colour(INFERNO, bright(channel, i));
    if (channels === 3) return [0, 1, 2].map((c) => 255 * bright(c, i));
    let mean = 0;
    for (let c = 0; c < channels; c++) mean += bright(c, i) / channels;
    return colour(INFERNO, mean);
  });
}

// Of each pixel the difference over the true channel's peak, of the channel where it is largest: [K K].
function residual(predicted, truth, [channels, K], peaks, channel) {
  const size = K * K, chosen = channel === null ? [...Array(channels).keys()] : [channel];
  return Array.from({ length: size }, (_, i) => {
    let worst = 0;
    for (const c of chosen) {
      const one = (predicted[c * size + i] - truth[c * size + i]) / peaks[c];
      if (Math.abs(one) > Math.abs(worst)) worst = one;
    }
    return worst;
  });
}

// Largest value of each channel [C].
function peaksOf(kernel, channels) {
  const size = kernel.length / channels;
  return Array.from({ length: channels }, (_, c) => kernel.subarray(c * size, (c + 1) * size).reduce((a, b) => Math.max(a, b), 1e-12));
}

// The next of 1, 2, 5 times a power of ten, so that a scale has a readable end.
function roundUp(v) {
  const power = 10 ** Math.floor(Math.log10(Math.max(v, 1e-12)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => v <= step * 1.000001);
}

// Draw pixels [H, W, RGB] onto a canvas of as many; CSS makes them large.
function paint(canvas, pixels, width) {
  canvas.width = width;
  canvas.height = pixels.length / width;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  pixels.forEach(([r, g, b], i) => image.data.set([r, g, b, 255], 4 * i));
  context.putImageData(image, 0, 0);
}
