// A room to test with: Ana is the reader, Ben has seat 2 and speaks.

import type { JoinAnswer, KnownEvents } from '../src/protocol';
import { applyEvent, enterRoom, type RoomState } from '../src/room-state';

export const ANA = 1;
export const BEN = 2;

export const ANSWER: JoinAnswer = {
  rtpCapabilities: {},
  participants: [
    { userId: ANA, name: 'Ana', isSpeaker: false },
    { userId: BEN, name: 'Ben', isSpeaker: true },
  ],
  existingProducers: [{ producerId: 'p-ben', userId: BEN, kind: 'audio', source: 'mic', paused: false }],
  activeSpeakers: [BEN],
  plugins: { seats: { seatCount: 4, seats: [{ seatIndex: 1, userId: BEN, isMuted: false }], lockedSeats: [3] } },
};

export const room = (answer: Partial<JoinAnswer> = {}): RoomState => enterRoom(ANA, 'Ana', { ...ANSWER, ...answer });

type Step = { [Name in keyof KnownEvents]: [Name, KnownEvents[Name]] }[keyof KnownEvents];

export const after = (state: RoomState, ...steps: Step[]): RoomState => (
  steps.reduce((now, [name, payload]) => applyEvent(now, { name, payload }), state));
