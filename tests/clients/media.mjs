// What clients say of their media: valid examples to send as they are or to spoil.

import { randomBytes } from 'node:crypto';

/** Bytes of each hash that a DTLS fingerprint may use. */
export const HASHES = { 'sha-1': 20, 'sha-224': 28, 'sha-256': 32, 'sha-384': 48, 'sha-512': 64 };

/** A made-up fingerprint. */
export const fingerprint = (algorithm = 'sha-256') => ({
  algorithm,
  value: randomBytes(HASHES[algorithm]).toString('hex').toUpperCase().match(/../g).join(':'),
});

/** DTLS parameters as mediasoup-client sends them. */
export const dtls = (...fingerprints) => ({
  role: 'client',
  fingerprints: fingerprints.length > 0 ? fingerprints : [fingerprint()],
});

let lastSsrc = 1_000_000;

/** An SSRC that no other stream of this file has. */
export const newSsrc = () => (lastSsrc += 7);

/** `rtpParameters` as Chromium with mediasoup-client sends them. */
export const opus = ({ ssrc = newSsrc(), mid = '0' } = {}) => ({
  mid,
  codecs: [
    {
      mimeType: 'audio/opus',
      payloadType: 111,
      clockRate: 48000,
      channels: 2,
      parameters: { minptime: 10, useinbandfec: 1, usedtx: 1 },
      rtcpFeedback: [{ type: 'transport-cc', parameter: '' }],
    },
  ],
  headerExtensions: [
    { uri: 'urn:ietf:params:rtp-hdrext:sdes:mid', id: 4, encrypt: false, parameters: {} },
    { uri: 'urn:ietf:params:rtp-hdrext:ssrc-audio-level', id: 1, encrypt: false, parameters: {} },
    { uri: 'http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time', id: 2, encrypt: false, parameters: {} },
  ],
  encodings: [{ ssrc, dtx: true }],
  rtcp: { cname: `cname-${ssrc}`, reducedSize: true },
});

/** The smallest that names a stream: Opus under another payload type, nothing else. */
export const bare = (ssrc = newSsrc()) => ({
  codecs: [{ mimeType: 'audio/opus', payloadType: 96, clockRate: 48000, channels: 2 }],
  encodings: [{ ssrc }],
});

/** Opens the client's transport of this type, connected unless told otherwise: its id. */
export async function openTransport(client, type, { connect = true } = {}) {
  const { id } = await client.ask('transport:create', { type });
  if (connect) {
    await client.ask('transport:connect', { transportId: id, dtlsParameters: dtls() });
  }
  return id;
}

/** Produces over the client's sending transport, opened if need be: the producer's id. */
export async function produce(client, { rtpParameters = opus(), ...fields } = {}) {
  const { id } = await client.ask('audio:produce', await producing(client, { rtpParameters, ...fields }));
  return id;
}

/** The fields of a good `audio:produce`. */
export async function producing(client, { rtpParameters = opus(), ...fields } = {}) {
  client.sending ??= openTransport(client, 'producer');
  return { transportId: await client.sending, kind: 'audio', rtpParameters, ...fields };
}

/** Consumes over the client's receiving transport, opened if need be: the answer's data. */
export async function consume(client, producerId) {
  return client.ask('audio:consume', await consuming(client, producerId));
}

/** The fields of a good `audio:consume`. */
export async function consuming(client, producerId) {
  client.receiving ??= openTransport(client, 'consumer');
  return { transportId: await client.receiving, producerId, rtpCapabilities: client.joined.rtpCapabilities };
}

/** Enters a room and produces: a client with `producerId`. */
export async function speaker(server, room, options) {
  const client = await server.enter(room, options);
  client.producerId = await produce(client);
  return client;
}
