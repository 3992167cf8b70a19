// What hooks return.

/** A typed "no". Thrown from a deciding or answering hook it refuses, too. */
export class Refusal extends Error {
  constructor(code, message, details) {
    super(message);
    this.name = 'Refusal';
    this.code = code;
    this.details = details;
  }
}

export const allow = ({ amend, actions = [] } = {}) => ({ allow: { amend }, actions });

export const refuse = (code, message, details, actions = []) => ({
  refuse: { code, message, details },
  actions,
});

export const done = (data, actions = []) => ({ done: data, actions });

export const emitToUser = (userId, event, payload = {}) => ({
  emitToUser: { userId, event, payload },
});

export const emitToRoom = (event, payload = {}, { except } = {}) => ({
  emitToRoom: { event, payload, except },
});

export const mute = (target) => ({ mute: target });
export const unmute = (target) => ({ unmute: target });
export const close = (target) => ({ close: target });
export const kick = (userId, reason) => ({ kick: { userId, reason } });
export const pinSpeaker = (userId, pin) => ({ pinSpeaker: { userId, pin } });
