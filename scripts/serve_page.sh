#!/usr/bin/env bash
# Opens the page of `examples/serve` in headless Chromium, once with a recording as a file and once as the microphone, and checks what
# the page shows: of the file the library's probabilities for what the browser decodes of it, bit for bit (`serve-load --file` runs
# them), and the same stretches of speech; of the microphone that speech is heard. Writes docs/images/serve.png. Installs Debian's
# chromium by apt where there is none, and playwright-core by npm into a folder that goes. No part of .ci/run: a browser is half a
# gigabyte.
#
#     cargo build --release -p serve && scripts/serve_page.sh
set -euo pipefail
cd "$(dirname "$0")/.."
programs="${CARGO_TARGET_DIR:-target}/release"
for program in serve serve-load; do
    [ -x "$programs/$program" ] || { echo "serve_page: no $programs/$program: cargo build --release -p serve" >&2; exit 2; }
done
if ! command -v chromium >/dev/null; then
    echo "serve_page: installing Debian's chromium"
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi

folder="$(mktemp -d)"
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" playwright-core@1.65.1
sound="$PWD/examples/models/silero_vad/speech_16k.wav"
"$programs/serve" --listen 127.0.0.1:0 --device cpu --sessions "$folder/sessions" >"$folder/log" &
server=$!
for _ in $(seq 100); do
    address="$(sed -n 's/^listening //p' "$folder/log")"
    [ -z "$address" ] || break
    sleep 0.1
done
[ -n "$address" ] || { echo "serve_page: the server did not start" >&2; exit 1; }
mkdir -p docs/images
cat >"$folder/page.cjs" <<'JS'
const { chromium } = require("playwright-core");
const fs = require("fs");
const assert = require("assert");
const { spawnSync } = require("child_process");
const [folder, address, sound, picture, load] = process.argv.slice(2);

// What a file of these samples gives through `serve-load`, which holds it to the library: probabilities, and stretches of speech as rows.
function library(samples) {
  const wav = Buffer.alloc(44 + 4 * samples.length);
  wav.write("RIFF");
  wav.writeUInt32LE(36 + 4 * samples.length, 4);
  wav.write("WAVEfmt ", 8);
  [16, 3 | (1 << 16), 16000, 64000, 4 | (32 << 16)].forEach((word, n) => wav.writeUInt32LE(word, 16 + 4 * n));
  wav.write("data", 36);
  wav.writeUInt32LE(4 * samples.length, 40);
  samples.forEach((sample, n) => wav.writeFloatLE(sample, 44 + 4 * n));
  fs.writeFileSync(`${folder}/decoded.wav`, wav);
  const server = address.replace("http://", "");
  const ran = spawnSync(load, ["--server", server, "--format", "f32", "--file", `${folder}/decoded.wav`], { encoding: "utf8" });
  assert.strictEqual(ran.status, 0, ran.stderr);
  const speech = ran.stderr.split("\n").flatMap((line) => {
    const found = /^speech +([\d.]+) s to ([\d.]+) s$/.exec(line);
    return found ? [[`${found[1]} s`, `${found[2]} s`]] : [];
  });
  return { truth: ran.stdout.trim().split("\n").map((line) => Math.fround(Number(line))), speech };
}

(async () => {
  const context = await chromium.launchPersistentContext(`${folder}/profile`, {
    executablePath: "/usr/bin/chromium",
    headless: true,
    viewport: { width: 960, height: 640 },
    permissions: ["microphone"],
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
      `--use-file-for-fake-audio-capture=${sound}`,
    ],
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => message.type() === "error" && faults.push(`${message.text()} ${message.location().url}`));
  await page.goto(address);
  console.log(`browser   ${context.browser()?.version() ?? (await page.evaluate(() => navigator.userAgent))}`);

  // A file, from the keyboard's point of view: what has a label can be found by it.
  await page.getByLabel("or a recording").setInputFiles(sound);
  await page.waitForFunction(() => heard.done, null, { timeout: 60000 });
  const file = await page.evaluate(() => heard.probability);
  const bytes = fs.readFileSync(sound);
  const decoded = await page.evaluate(async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    return [...(await new OfflineAudioContext(1, 1, 16000).decodeAudioData(bytes.buffer)).getChannelData(0)];
  }, bytes.toString("base64"));
  const { truth, speech } = library(decoded);
  assert.strictEqual(file.length, truth.length);
  const same = file.filter((p, n) => Object.is(p, truth[n])).length;
  assert.strictEqual(same, truth.length, `${same} of ${truth.length} probabilities are the library's`);
  const texts = (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent));
  const rows = await page.locator("#speech tr").evaluateAll(texts);
  assert.deepStrictEqual(rows, speech);
  assert.match(await page.getByRole("status").textContent(), new RegExp(`^${truth.length} frames`));
  await page.screenshot({ path: picture, fullPage: true });
  const stored = decoded.map((_, n) => bytes.readInt16LE(44 + 2 * n));
  const by = (s, n) => `${s < 0 ? "below" : "above"} 0 by ${Math.round(s / decoded[n])}`;
  const scales = new Set(stored.flatMap((s, n) => (s === 0 ? [] : [by(s, n)])));
  console.log(`decoded   ${decoded.length} samples; divided ${[...scales].join(", ")}`);
  const stretches = rows.map((row) => row.join(" to ")).join(", ");
  console.log(`file      ${same} of ${truth.length} probabilities are the library's bit for bit; speech ${stretches}`);

  // The same recording, again and again, as the microphone.
  await page.getByRole("button", { name: "Listen to the microphone" }).click();
  await page.waitForFunction(() => heard.probability.length > 200, null, { timeout: 60000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await page.waitForFunction(() => heard.done, null, { timeout: 20000 });
  const spoken = await page.evaluate(() => {
    const { probability, stretches } = heard;
    return { frames: probability.length, high: probability.filter((p) => p > 0.5).length, stretches: stretches.length };
  });
  assert.ok(spoken.high > spoken.frames / 4 && spoken.high < spoken.frames && spoken.stretches > 0, JSON.stringify(spoken));
  console.log(`microphone ${spoken.frames} frames, ${spoken.high} of them speech, ${spoken.stretches} stretches`);
  assert.deepStrictEqual(faults, []);
  await context.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
JS
NODE_PATH="$folder/node_modules" timeout 300 node "$folder/page.cjs" "$folder" "$address" "$sound" "$PWD/docs/images/serve.png" \
    "$programs/serve-load"
kill -TERM "$server"
wait "$server"
server=""
tail -n 1 "$folder/log"
