// Colours that mean numbers: style.css has them, pale to strong or blue against orange, light and dark.

import { element } from "./elements.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const N_STOPS = 5;
let known = {}; // the stops of each scale, as red, green and blue

/** Calls `draw` now, and again whenever the colours turn light or dark. */
export function drawn(draw) {
  dark.addEventListener("change", draw);
  draw();
}

dark.addEventListener("change", () => (known = {}));

function stopsOf(scale) {
  const style = getComputedStyle(document.documentElement);
  const hex = Array.from({ length: N_STOPS }, (_, i) => style.getPropertyValue(`--${scale}-${i}`).trim());
  return (known[scale] ??= hex.map((one) => [1, 3, 5].map((start) => parseInt(one.slice(start, start + 2), 16))));
}

/** Red, green and blue of a share from 0 to 1 of a scale. */
export function colour(scale, share) {
  const stops = known[scale] ?? stopsOf(scale);
  const place = Math.max(0, Math.min(1, share)) * (N_STOPS - 1);
  const below = Math.min(Math.floor(place), N_STOPS - 2);
  return stops[below].map((value, i) => Math.round(value + (place - below) * (stops[below + 1][i] - value)));
}

/** Whether black or white is read more easily on a colour (WCAG's relative luminance). */
export function inkOn(rgb) {
  const linear = rgb.map((value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179 ? "#000" : "#fff";
}

/** A matrix as a picture, a pixel a number. */
export function paint(canvas, rows, scale, low, high) {
  [canvas.height, canvas.width] = [rows.length, rows[0].length];
  const image = new ImageData(canvas.width, canvas.height);
  rows.flat().forEach((value, i) => image.data.set([...colour(scale, (value - low) / (high - low)), 255], 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** What the colours of a scale mean. */
export function legend(scale, low, high, label) {
  const ends = [element("span", {}, low), element("span", { class: `ramp ${scale}` }), element("span", {}, high)];
  return element("p", { class: "legend" }, element("span", {}, label), ends);
}
