"use strict";

// The server's protocol is in docs/serve.md.
const RATE = 16000;
const SHOWN = 300; // frames in the picture

const at = (id) => document.getElementById(id);
const plot = at("plot").getContext("2d");

// What has been heard of the sound at hand; a test reads it, too.
const heard = { probability: [], stretches: [], done: false };
let stop = () => {}; // ends the sound at hand

function status(text) {
  at("status").textContent = text;
}

function draw() {
  const { width, height } = plot.canvas;
  const first = Math.max(0, heard.probability.length - SHOWN);
  const x = (frame) => ((frame - first) * width) / SHOWN;
  const y = (p) => height - 2 - p * (height - 4);
  plot.clearRect(0, 0, width, height);
  plot.fillStyle = "#d6ecd6";
  for (const { from, to } of heard.stretches) {
    const end = to ?? heard.probability.length;
    if (end > first) plot.fillRect(x(Math.max(from, first)), 0, x(end) - x(Math.max(from, first)), height);
  }
  plot.strokeStyle = "#767676";
  plot.lineWidth = 1;
  plot.beginPath();
  plot.moveTo(0, y(0.5));
  plot.lineTo(width, y(0.5));
  plot.stroke();
  plot.strokeStyle = "#0b57d0";
  plot.lineWidth = 2;
  plot.beginPath();
  heard.probability.slice(first).forEach((p, n) => {
    plot.lineTo(x(first + n), y(p));
    plot.lineTo(x(first + n + 1), y(p));
  });
  plot.stroke();
}

function tabulate() {
  const seconds = (value) => (value === undefined ? "…" : `${value.toFixed(2)} s`);
  at("speech").replaceChildren(
    ...heard.stretches.map(({ start, end }) => {
      const row = document.createElement("tr");
      for (const value of [start, end]) row.insertCell().textContent = seconds(value);
      return row;
    }),
  );
}

function show(message) {
  if (message.type === "frames") {
    // Bits of f32: what JSON says is the shortest text of one.
    heard.probability.push(...message.probability.map(Math.fround));
    const p = heard.probability.at(-1);
    at("meter").value = p;
    at("number").textContent = p.toFixed(2);
    requestAnimationFrame(draw);
  } else if (message.type === "speech") {
    const known = heard.stretches.find(({ from }) => from === message.from);
    if (known) Object.assign(known, message);
    else heard.stretches.push(message);
    tabulate();
    requestAnimationFrame(draw);
  } else if (message.type === "end") {
    heard.done = true;
    status(`${message.frames} frames were heard.`);
  } else if (message.type === "saved") {
    status("The server stops. It keeps the session.");
  } else if (message.type === "error") {
    status(`The server has ended the session: ${message.message}`);
  }
}

// A connection that is ready for sound.
function connect() {
  Object.assign(heard, { probability: [], stretches: [], done: false });
  tabulate();
  draw();
  return new Promise((resolve, reject) => {
    const address = new URL("stream", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    socket.onopen = () => socket.send(JSON.stringify({ type: "start", format: "f32", rate: RATE }));
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "ready") resolve(socket);
      else show(message);
    };
    socket.onclose = ({ reason }) => {
      stop();
      reject(new Error(`the server takes no sound (${reason || "is it full?"})`));
    };
  });
}

function end(socket) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "end" }));
}

// Runs a source of sound from its start until it ends or is stopped.
async function listen(source) {
  stop();
  at("microphone").disabled = at("file").disabled = true;
  at("stop").disabled = false;
  const finished = new Promise((resolve) => {
    stop = resolve;
  });
  try {
    await source(finished);
  } catch (error) {
    status(`That did not work: ${error.message}`);
  }
  stop = () => {};
  at("microphone").disabled = at("file").disabled = false;
  at("stop").disabled = true;
}

async function microphone(finished) {
  status("Waiting for the microphone.");
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  // The browser brings whatever the microphone gives to this rate.
  const context = new AudioContext({ sampleRate: RATE });
  try {
    await context.audioWorklet.addModule("microphone.js");
    const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    const socket = await connect();
    node.port.onmessage = ({ data }) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(data);
    };
    context.createMediaStreamSource(media).connect(node);
    status("Listening.");
    await finished;
    end(socket);
  } finally {
    media.getTracks().forEach((track) => track.stop());
    await context.close();
  }
}

async function file(recording, finished) {
  status(`Reading ${recording.name}.`);
  const context = new OfflineAudioContext(1, 1, RATE);
  const sound = await context.decodeAudioData(await recording.arrayBuffer());
  const samples = sound.getChannelData(0).slice();
  for (let channel = 1; channel < sound.numberOfChannels; channel++) {
    sound.getChannelData(channel).forEach((sample, n) => (samples[n] += sample));
  }
  if (sound.numberOfChannels > 1) samples.forEach((sample, n) => (samples[n] = sample / sound.numberOfChannels));
  const socket = await connect();
  status(`Sending ${recording.name}.`);
  // As it would be spoken.
  const begun = performance.now();
  let stopped = false;
  finished.then(() => (stopped = true));
  for (let from = 0; from < samples.length && !stopped; from += 512) {
    const due = begun + ((from + 512) * 1000) / RATE;
    await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, due - performance.now()))]);
    if (socket.readyState === WebSocket.OPEN) socket.send(samples.slice(from, from + 512));
  }
  end(socket);
}

at("microphone").onclick = () => listen(microphone);
at("stop").onclick = () => stop();
at("file").onchange = ({ target }) => {
  const [recording] = target.files;
  if (recording) listen((finished) => file(recording, finished)).finally(() => (target.value = ""));
};
draw();
