// In a browser: a client of REST as a team would write one, on mediasoup-client.

import { Device } from 'mediasoup-client';

class RestClient {
  consumers = new Map();

  constructor(token, callId) {
    this.token = token;
    this.callId = callId;
  }

  async request(method, path, body) {
    const headers = { authorization: `Bearer ${this.token}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    const json = await answer.json();
    if (!answer.ok) throw Object.assign(new Error(json.message), { code: json.error });
    return json;
  }

  async enter() {
    this.device = new Device();
    const { rtpCapabilities } = await this.request('GET', '/rtc/capabilities');
    await this.device.load({ routerRtpCapabilities: rtpCapabilities });
    this.sending = await this.transport('send');
    this.receiving = await this.transport('recv');
  }

  async transport(direction) {
    const { callId } = this;
    const { transportId, ...rest } = await this.request('POST', '/rtc/transports', { callId, direction });
    const options = { id: transportId, ...rest };
    const transport = direction === 'send' ? this.device.createSendTransport(options) : this.device.createRecvTransport(options);
    transport.on('connect', ({ dtlsParameters }, done, failed) => {
      this.request('POST', `/rtc/transports/${transportId}/connect`, { dtlsParameters }).then(done, failed);
    });
    transport.on('produce', ({ kind, rtpParameters }, done, failed) => {
      this.request('POST', '/rtc/producers', { callId, transportId, kind, rtpParameters })
        .then(({ producerId }) => done({ id: producerId }), failed);
    });
    return transport;
  }

  /** Takes a seat, over the call's event socket. */
  sit(seatIndex) {
    const url = new URL(`/ws/call?token=${this.token}&callId=${this.callId}`, location.href.replace('http', 'ws'));
    this.socket = new WebSocket(url);
    return new Promise((done, failed) => {
      this.socket.onopen = () => {
        const ask = { type: 'seat:take', callId: this.callId, payload: { seatIndex }, requestId: 'sit' };
        this.socket.send(JSON.stringify(ask));
      };
      this.socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.requestId !== 'sit') return;
        if (frame.type === 'error') failed(new Error(frame.message));
        else done();
      };
      this.socket.onerror = () => failed(new Error('/ws/call'));
    });
  }

  async speak() {
    const media = await navigator.mediaDevices.getUserMedia({ audio: true });
    const producer = await this.sending.produce({ track: media.getAudioTracks()[0] });
    return producer.id;
  }

  async receive(producerId) {
    const { callId, receiving, device } = this;
    const wanted = { callId, transportId: receiving.id, producerId, rtpCapabilities: device.recvRtpCapabilities };
    const { consumerId, rtpParameters } = await this.request('POST', '/rtc/consumers', wanted);
    const consumer = await receiving.consume({ id: consumerId, producerId, kind: 'audio', rtpParameters });
    this.consumers.set(consumerId, consumer);
    // A remote track is decoded only while something plays it.
    const audio = new Audio();
    audio.srcObject = new MediaStream([consumer.track]);
    await audio.play();
    await this.request('POST', `/rtc/consumers/${consumerId}/resume`);
  }
}

/** One second of a tone as Opus, a frame of 20 ms each: what a microphone would give. */
async function tone(frequency) {
  const rate = 48_000;
  const frames = [];
  const encoder = new AudioEncoder({
    output: (chunk) => {
      const bytes = new Uint8Array(chunk.byteLength);
      chunk.copyTo(bytes);
      frames.push([...bytes]);
    },
    error: (error) => { throw error; },
  });
  encoder.configure({ codec: 'opus', sampleRate: rate, numberOfChannels: 1, bitrate: 32_000 });
  const data = Float32Array.from({ length: rate }, (_, i) => 0.4 * Math.sin((2 * Math.PI * frequency * i) / rate));
  const format = { format: 'f32-planar', sampleRate: rate, numberOfFrames: rate, numberOfChannels: 1, timestamp: 0 };
  encoder.encode(new AudioData({ ...format, data }));
  await encoder.flush();
  return frames;
}

Object.assign(window, {
  tone,
  async enterOverRest(token, callId) {
    window.voiceRoom = new RestClient(token, callId);
    await window.voiceRoom.enter();
  },
});
