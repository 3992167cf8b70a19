// Media descriptions that are wrong, extreme or hostile: each is answered, none
// as an error of the server's, and the server goes on.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import { invalid } from './client.mjs';
import { bare, consume, consuming, newSsrc, opus, produce, producing } from './media.mjs';
import { start } from './server.mjs';

let server;
before(async () => {
  server = await start({ config: { sessions: 'event_budget_capacity = 100000' } });
});
after(() => server?.stop());

/** The answer is a success or a refusal for this very payload. */
function answered(answer, ...codes) {
  const said = answer?.success === true ? 'OK' : answer?.code;
  assert.ok(codes.includes(said), `${codes.join(' or ')}, not ${JSON.stringify(answer)}`);
}

const codec = bare().codecs[0];
const withCodec = (fields) => ({ ...bare(), codecs: [{ ...codec, ...fields }] });
const withCodecs = (...codecs) => ({ ...bare(), codecs });
const withEncoding = (fields) => ({ ...bare(), encodings: [{ ssrc: newSsrc(), ...fields }] });
const withEncodings = (...encodings) => ({ ...bare(), encodings });
const withExtension = (fields) => ({
  ...bare(),
  headerExtensions: [{ uri: 'urn:ietf:params:rtp-hdrext:ssrc-audio-level', id: 1, ...fields }],
});
const withRtcp = (rtcp) => ({ ...bare(), rtcp });
const deep = (depth) => JSON.parse('['.repeat(depth) + ']'.repeat(depth));
const long = 'x'.repeat(40_000);

/** What no client means: refused, with the field's name. */
const WRONG = {
  'nothing': undefined,
  'null': null,
  'a text': 'opus',
  'a number': 1,
  'a list': [opus()],
  'an empty object': {},
  'no codecs': { encodings: [{ ssrc: newSsrc() }] },
  'an empty list of codecs': withCodecs(),
  'codecs that are an object': { ...bare(), codecs: codec },
  'a codec that is a text': withCodecs('audio/opus'),
  'a list in a list': withCodecs([codec]),
  'a codec without a mimeType': withCodec({ mimeType: undefined }),
  'a mimeType that is a number': withCodec({ mimeType: 111 }),
  'a mimeType without a slash': withCodec({ mimeType: 'opus' }),
  'an empty mimeType': withCodec({ mimeType: '' }),
  'video alone': withCodec({ mimeType: 'video/VP8', clockRate: 90000 }),
  'an unheard-of codec': withCodec({ mimeType: 'audio/unheard-of' }),
  'a codec without a payloadType': withCodec({ payloadType: undefined }),
  'a payloadType below 0': withCodec({ payloadType: -1 }),
  'a payloadType above 127': withCodec({ payloadType: 128 }),
  'a payloadType that is not whole': withCodec({ payloadType: 96.5 }),
  'a payloadType in quotes': withCodec({ payloadType: '96' }),
  'an enormous payloadType': withCodec({ payloadType: 1e300 }),
  'a payloadType twice': withCodecs(codec, { mimeType: 'audio/PCMA', payloadType: 96, clockRate: 8000 }),
  'no clockRate': withCodec({ clockRate: undefined }),
  'a clockRate of 0': withCodec({ clockRate: 0 }),
  'a negative clockRate': withCodec({ clockRate: -48000 }),
  'a clockRate that is a text': withCodec({ clockRate: '48000' }),
  'a clockRate beyond 32 bits': withCodec({ clockRate: 2 ** 32 }),
  'channels of 0': withCodec({ channels: 0 }),
  'channels beyond 8 bits': withCodec({ channels: 256 }),
  'channels that are a text': withCodec({ channels: 'two' }),
  'parameters that are a list': withCodec({ parameters: [1] }),
  'a parameter that is an object': withCodec({ parameters: { useinbandfec: {} } }),
  'a line break in a parameter': withCodec({ parameters: { x: 'a\r\na=candidate:1' } }),
  'rtcpFeedback that is a text': withCodec({ rtcpFeedback: 'nack' }),
  'a feedback without a type': withCodec({ rtcpFeedback: [{ parameter: 'pli' }] }),
  'encodings that are an object': { ...bare(), encodings: { ssrc: 1 } },
  'an encoding that is a number': withEncodings(1),
  'an ssrc below 0': withEncoding({ ssrc: -1 }),
  'an ssrc beyond 32 bits': withEncoding({ ssrc: 2 ** 32 }),
  'an ssrc in quotes': withEncoding({ ssrc: '1234' }),
  'an ssrc that is not whole': withEncoding({ ssrc: 0.5 }),
  'nothing to know the packets by': { codecs: [codec], encodings: [{}] },
  'a mid that is a number': { ...bare(), mid: 0 },
  'a cname that is a number': withRtcp({ cname: 5 }),
  'rtcp that is a list': withRtcp([1]),
  'a line break in the cname': withRtcp({ cname: 'a\nb' }),
  'reducedSize that is a text': withRtcp({ reducedSize: 'yes' }),
  'headerExtensions that are an object': { ...bare(), headerExtensions: {} },
  'an extension without a uri': withExtension({ uri: undefined }),
  'an extension without an id': withExtension({ id: undefined }),
  'an extension with id 0': withExtension({ id: 0 }),
  'an extension with id 256': withExtension({ id: 256 }),
  'an extension with a text for an id': withExtension({ id: '1' }),
  'scalability of a thousand layers': withEncoding({ scalabilityMode: 'L1000T1000' }),
  'an endless scalabilityMode': withEncoding({ scalabilityMode: `L${'1'.repeat(30_000)}T1` }),
  'a maxBitrate that is a text': withEncoding({ maxBitrate: 'much' }),
  'dtx that is a text': withEncoding({ dtx: 'on' }),
};

/** What may be taken or refused, but is answered either way. */
const ODD = {
  'a codec twice': withCodecs(codec, { ...codec, payloadType: 97 }),
  'comfort noise beside Opus': withCodecs(codec, { mimeType: 'audio/CN', payloadType: 13, clockRate: 8000 }),
  'Opus with retransmission': withCodecs(codec, { mimeType: 'audio/rtx', payloadType: 97, clockRate: 48000, parameters: { apt: 96 } }),
  'retransmission of nothing': withCodecs(codec, { mimeType: 'audio/rtx', payloadType: 97, clockRate: 48000 }),
  'redundancy': withCodecs(codec, { mimeType: 'audio/red', payloadType: 63, clockRate: 48000, channels: 2, parameters: { '': '96/96' } }),
  'redundancy alone': withCodec({ mimeType: 'audio/red' }),
  'Opus for 255 channels': withCodec({ channels: 255 }),
  'an apt that is a text': withCodec({ parameters: { apt: 'x' } }),
  'hundreds of parameters': withCodec({ parameters: Object.fromEntries(Array.from({ length: 900 }, (_, i) => [`p${i}`, i])) }),
  'a parameter of 40,000 characters': withCodec({ parameters: { x: long } }),
  'a parameter with a long name': withCodec({ parameters: { [long]: 1 } }),
  'a parameter beyond 32 bits': withCodec({ parameters: { maxaveragebitrate: 2 ** 40 } }),
  'a negative parameter': withCodec({ parameters: { x: -5 } }),
  'a parameter that is not whole': withCodec({ parameters: { x: 1.5 } }),
  'a parameter that is a boolean': withCodec({ parameters: { useinbandfec: true } }),
  '__proto__ among the parameters': withCodec({ parameters: JSON.parse('{"__proto__": 1, "constructor": 2}') }),
  'unknown feedback': withCodec({ rtcpFeedback: [{ type: 'unheard', parameter: 'of' }] }),
  'hundreds of feedback entries': withCodec({ rtcpFeedback: Array.from({ length: 500 }, () => ({ type: 'nack' })) }),
  'hundreds of codecs': withCodecs(...Array.from({ length: 500 }, () => codec)),
  'an ssrc of 0': withEncoding({ ssrc: 0 }),
  'the largest ssrc': withEncoding({ ssrc: 2 ** 32 - 1 }),
  'no encodings': { ...bare(), encodings: undefined },
  'an empty list of encodings': withEncodings(),
  'two encodings': withEncodings({ ssrc: newSsrc() }, { ssrc: newSsrc() }),
  'two encodings of one ssrc': withEncodings({ ssrc: 77 }, { ssrc: 77 }),
  'a hundred encodings': withEncodings(...Array.from({ length: 100 }, () => ({ ssrc: newSsrc() }))),
  'encodings by rid': { ...bare(), mid: 'm', encodings: [{ rid: 'r0' }] },
  'two encodings by the same rid': { ...bare(), mid: 'm', encodings: [{ rid: 'r0' }, { rid: 'r0' }] },
  'a rid of 40,000 characters': { ...bare(), encodings: [{ rid: long }] },
  'a rid that is no ASCII': { ...bare(), encodings: [{ rid: 'é\u0000' }] },
  'a retransmission of the same ssrc': withEncoding({ ssrc: 99, rtx: { ssrc: 99 } }),
  'an rtx that is a number': withEncoding({ rtx: 5 }),
  'a codecPayloadType of another codec': withEncoding({ codecPayloadType: 5 }),
  'an unknown scalabilityMode': withEncoding({ scalabilityMode: 'x' }),
  'a scalabilityMode of one layer': withEncoding({ scalabilityMode: 'L1T1' }),
  'a negative maxBitrate': withEncoding({ maxBitrate: -1 }),
  'an endless maxBitrate': withEncoding({ maxBitrate: 1e308 }),
  'an empty mid': { ...opus(), mid: '' },
  'a mid of 40,000 characters': { ...opus(), mid: long },
  'a mid that is no ASCII': { ...opus(), mid: '\u0000é😀' },
  'a long mid alone': { codecs: [codec], encodings: [{}], mid: 'm'.repeat(255) },
  'a cname of 40,000 characters': withRtcp({ cname: long }),
  'an empty cname': withRtcp({ cname: '' }),
  'a cname that is no ASCII': withRtcp({ cname: 'é😀' }),
  'an extension twice': { ...bare(), headerExtensions: [1, 2].map((id) => withExtension({ id }).headerExtensions[0]) },
  'two extensions under one id': {
    ...opus(), headerExtensions: opus().headerExtensions.map((one) => ({ ...one, id: 3 })),
  },
  'hundreds of extensions': { ...bare(), headerExtensions: Array.from({ length: 300 }, (_, i) => ({ uri: `urn:x:${i}`, id: i })) },
  'an extension with parameters': withExtension({ parameters: { deep: deep(30) } }),
  'an encrypted extension': withExtension({ encrypt: true }),
  'an extension of video': withExtension({ uri: 'urn:3gpp:video-orientation' }),
  'an msid with line breaks': { ...bare(), msid: 'a\r\nb' },
  'forty lists in each other': { ...bare(), future: deep(40) },
};

describe('rtpParameters', () => {
  let client;
  let listener;
  before(async () => {
    client = await server.enter('parameters');
    listener = await server.enter('parameters');
  });
  const send = async (rtpParameters) => {
    const fields = await producing(client);
    return client.request('audio:produce', { ...fields, rtpParameters });
  };

  for (const [name, rtpParameters] of Object.entries(WRONG)) {
    test(`with ${name} are refused by name`, async () => {
      invalid(await send(rtpParameters), 'rtpParameters');
    });
  }

  for (const [name, rtpParameters] of Object.entries(ODD)) {
    test(`with ${name} are taken or refused`, async () => {
      const answer = await send(rtpParameters);
      answered(answer, 'OK', 'INVALID_PAYLOAD', 'CANNOT_PRODUCE');
      if (answer.success) await consume(listener, answer.data.id);
    });
  }

  test('that are good still work after all of these', async () => {
    const producerId = await produce(client);
    await consume(listener, producerId);
    await server.serves();
  });
});

const capability = { kind: 'audio', mimeType: 'audio/opus', preferredPayloadType: 100, clockRate: 48000, channels: 2 };

/** What the receiving end may say. */
const CAPABILITIES = {
  'nothing but Opus': [{ codecs: [capability] }, 'OK'],
  'no kind': [{ codecs: [{ ...capability, kind: undefined }] }, 'OK'],
  'no preferred payload type': [{ codecs: [{ ...capability, preferredPayloadType: undefined }] }, 'OK'],
  'null for what may be absent': [
    { codecs: [{ ...capability, parameters: null, rtcpFeedback: null }], headerExtensions: null }, 'OK',
  ],
  'extensions without a direction': [
    { codecs: [capability], headerExtensions: [{ kind: 'audio', uri: 'urn:ietf:params:rtp-hdrext:sdes:mid', preferredId: 1 }] }, 'OK',
  ],
  'an unknown extension': [
    { codecs: [capability], headerExtensions: [{ kind: 'audio', uri: 'urn:example:unheard-of', preferredId: 9 }] }, 'OK',
  ],
  'video codecs beside Opus': [
    { codecs: [{ kind: 'video', mimeType: 'video/VP8', preferredPayloadType: 101, clockRate: 90000 }, capability] }, 'OK',
  ],
  'unknown codecs beside Opus': [{ codecs: [{ ...capability, mimeType: 'audio/unheard-of' }, capability] }, 'OK'],
  'FEC parameters': [{ codecs: [{ ...capability, parameters: { useinbandfec: 1, minptime: 10 } }] }, 'OK'],
  'an empty object': [{}, 'CANNOT_CONSUME'],
  'no codecs': [{ codecs: [], headerExtensions: [] }, 'CANNOT_CONSUME'],
  'video alone': [{ codecs: [{ kind: 'video', mimeType: 'video/VP8', clockRate: 90000 }] }, 'CANNOT_CONSUME'],
  'another audio codec': [{ codecs: [{ ...capability, mimeType: 'audio/PCMU', clockRate: 8000, channels: 1 }] }, 'CANNOT_CONSUME'],
  'another clock rate': [{ codecs: [{ ...capability, clockRate: 44100 }] }, 'CANNOT_CONSUME'],
  'nothing at all': [undefined, 'INVALID_PAYLOAD'],
  'a text': ['all', 'INVALID_PAYLOAD'],
  'a list': [[capability], 'INVALID_PAYLOAD'],
  'codecs that are an object': [{ codecs: capability }, 'INVALID_PAYLOAD'],
  'a codec that is null': [{ codecs: [null] }, 'INVALID_PAYLOAD', 'CANNOT_CONSUME'],
  'a codec that is a text': [{ codecs: ['audio/opus'] }, 'INVALID_PAYLOAD'],
  'a codec without a mimeType': [{ codecs: [{ ...capability, mimeType: undefined }] }, 'INVALID_PAYLOAD'],
  'a payload type beyond 127': [{ codecs: [{ ...capability, preferredPayloadType: 200 }] }, 'INVALID_PAYLOAD'],
  'a negative clock rate': [{ codecs: [{ ...capability, clockRate: -1 }] }, 'INVALID_PAYLOAD'],
  'an extension without an id': [
    { codecs: [capability], headerExtensions: [{ kind: 'audio', uri: 'urn:ietf:params:rtp-hdrext:sdes:mid' }] }, 'INVALID_PAYLOAD',
  ],
  'hundreds of codecs': [{ codecs: Array.from({ length: 500 }, () => capability) }, 'OK', 'INVALID_PAYLOAD', 'CANNOT_CONSUME'],
  'the same codec twice': [{ codecs: [capability, capability] }, 'OK', 'INVALID_PAYLOAD', 'CANNOT_CONSUME'],
  'a line break in a parameter': [
    { codecs: [{ ...capability, parameters: { x: 'a\r\nb' } }] }, 'OK', 'INVALID_PAYLOAD', 'CANNOT_CONSUME',
  ],
  'forty lists in each other': [{ codecs: [capability], future: deep(40) }, 'OK', 'INVALID_PAYLOAD'],
};

describe('rtpCapabilities', () => {
  let producerId;
  let listener;
  before(async () => { producerId = await produce(await server.enter('capabilities')); });
  beforeEach(async () => { listener = await server.enter('capabilities'); });

  for (const [name, [rtpCapabilities, ...codes]] of Object.entries(CAPABILITIES)) {
    test(`of ${name} are answered by ${codes.join(' or ')}`, async () => {
      const fields = { ...(await consuming(listener, producerId)), rtpCapabilities };
      const answer = await listener.request('audio:consume', fields);
      answered(answer, ...codes);
      if (answer.code === 'INVALID_PAYLOAD') invalid(answer, 'rtpCapabilities');
      listener.close();
    });
  }

  test('that are good still work after all of these', async () => {
    await consume(listener, producerId);
    await server.serves();
  });
});
