#!/usr/bin/env bash
# Chromium (156.0.8078.114, Debian's): `decodeAudioData` divides the samples of a 16-bit WAV by 32767 above 0 and by 32768 below. libsndfile
# 1.2.2 (PyPI's soundfile) divides all of them by 32768, and so do this project's examples. So a network gives other bits for a recording
# that a page has decoded than for the same file (84 of the 128 probabilities of examples/models/silero_vad/speech_16k.wav differ), and
# 16384 and -16384 are no longer each other's opposite.
#
# Prints four samples and what they become; fails where they become anything else than said here.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
if ! command -v chromium >/dev/null; then
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
fi
cat >"$folder/page.html" <<'HTML'
<!doctype html>
<pre id="out"></pre>
<script>
const stored = [-32768, -16384, 16384, 32767];
const wav = new DataView(new ArrayBuffer(44 + 2 * stored.length));
[..."RIFF"].forEach((c, n) => wav.setUint8(n, c.charCodeAt()));
wav.setUint32(4, 36 + 2 * stored.length, true);
[..."WAVEfmt "].forEach((c, n) => wav.setUint8(8 + n, c.charCodeAt()));
[16, 1 | (1 << 16), 16000, 32000, 2 | (16 << 16)].forEach((word, n) => wav.setUint32(16 + 4 * n, word, true));
[..."data"].forEach((c, n) => wav.setUint8(36 + n, c.charCodeAt()));
wav.setUint32(40, 2 * stored.length, true);
stored.forEach((sample, n) => wav.setInt16(44 + 2 * n, sample, true));
// At the file's own rate: nothing is resampled.
new OfflineAudioContext(1, 1, 16000).decodeAudioData(wav.buffer).then((sound) => {
  const decoded = [...sound.getChannelData(0)];
  const scale = (n) => (stored[n] < 0 ? 32768 : 32767);
  const lines = stored.map((sample, n) => `${sample} is ${decoded[n]}, ${sample} / 32768 is ${sample / 32768}`);
  const uneven = decoded.every((sample, n) => sample === Math.fround(stored[n] / scale(n)));
  document.getElementById("out").textContent = [...lines, uneven ? "UNEVEN" : "OTHERWISE"].join("\n");
});
</script>
HTML
chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update \
    --disable-sync --user-data-dir="$folder/profile" --virtual-time-budget=10000 --dump-dom "file://$folder/page.html" 2>/dev/null |
    sed -n '/<pre/,/<\/pre>/p' | sed 's/<[^>]*>//g' | tee "$folder/said"
grep -q UNEVEN "$folder/said"
