// The grid of seats: one button a seat, made once and updated in place, so that
// the keyboard's focus stays where it is.

import { nameOf, voiceOf, type RoomState, type Voice } from './room-state';
import { initials, paintAvatar, part, setText } from './dom';
import type { UserId } from './protocol';

export type SeatAction =
  | { kind: 'take' | 'lock' | 'unlock'; seatIndex: number }
  | { kind: 'mute' | 'unmute' | 'remove'; userId: UserId };

const NOTES: Readonly<Record<Voice, string>> = { none: '', live: '', muted: 'muted', held: 'muted by a manager' };

export class SeatGrid {
  readonly #list: HTMLElement;
  readonly #template: HTMLTemplateElement;
  readonly #act: (action: SeatAction) => void;
  #items: HTMLElement[] = [];
  #state: RoomState | undefined;

  constructor(list: HTMLElement, template: HTMLTemplateElement, act: (action: SeatAction) => void) {
    this.#list = list;
    this.#template = template;
    this.#act = act;
    list.addEventListener('click', (event) => this.#onClick(event));
    list.addEventListener('keydown', (event) => this.#onKey(event));
  }

  render(state: RoomState, managing: boolean): void {
    this.#state = state;
    const count = state.seats?.count ?? 0;
    if (this.#items.length !== count) this.#build(count);
    this.#items.forEach((item, index) => this.#renderSeat(item, index, state, managing));
  }

  /** Shows live levels: 0 to 1 by user. */
  showLevels(levelOf: (userId: UserId) => number): void {
    for (const item of this.#items) {
      const userId = item.dataset['user'];
      item.style.setProperty('--level', userId ? levelOf(Number(userId)).toFixed(2) : '0');
    }
  }

  #build(count: number): void {
    this.#items = Array.from({ length: count }, (_, index) => {
      const item = part(this.#template.content.cloneNode(true) as DocumentFragment, '.seat');
      item.dataset['seat'] = String(index);
      return item;
    });
    this.#list.replaceChildren(...this.#items);
  }

  #renderSeat(item: HTMLElement, index: number, state: RoomState, managing: boolean): void {
    const occupant = state.seats?.occupants.get(index);
    const isLocked = state.seats?.locked.has(index) ?? false;
    const isOwn = occupant?.userId === state.self;
    const isSpeaking = occupant !== undefined && state.speakers.includes(occupant.userId);
    const name = occupant ? nameOf(state, occupant.userId) : undefined;
    const voice = occupant ? NOTES[voiceOf(state, occupant.userId)] : isLocked ? 'locked' : 'free';
    const note = [isOwn ? 'you' : '', voice || (isSpeaking ? 'speaking' : '')].filter(Boolean).join(', ');

    if (occupant) item.dataset['user'] = String(occupant.userId);
    else delete item.dataset['user'];
    item.dataset['state'] = occupant ? 'taken' : isLocked ? 'locked' : 'free';
    item.toggleAttribute('data-own', isOwn);
    item.toggleAttribute('data-speaking', isSpeaking);
    item.toggleAttribute('data-muted', voice.startsWith('muted'));
    const avatar = part(item, '.avatar');
    setText(avatar, name ? initials(name) : String(index + 1));
    paintAvatar(avatar, occupant?.userId);
    setText(part(item, '.seat-name'), name ?? `Seat ${index + 1}`);
    setText(part(item, '.seat-note'), note);
    const label = occupant
      ? `Seat ${index + 1}: ${isOwn ? 'you' : name}${voice ? `, ${voice}` : ''}`
      : isLocked ? `Seat ${index + 1}: locked` : `Take seat ${index + 1}`;
    part(item, '.seat-main').setAttribute('aria-label', label);

    part(item, '.manage-actions').hidden = !managing;
    const lock = part(item, '[data-action=lock]');
    setText(lock, isLocked ? 'Unlock' : 'Lock');
    lock.setAttribute('aria-label', `${isLocked ? 'Unlock' : 'Lock'} seat ${index + 1}`);
    const mute = part(item, '[data-action=mute]');
    setText(mute, occupant?.isMuted ? 'Unmute' : 'Mute');
    mute.setAttribute('aria-label', `${occupant?.isMuted ? 'Unmute' : 'Mute'} ${name ?? ''}`);
    const remove = part(item, '[data-action=remove]');
    setText(remove, 'Remove');
    remove.setAttribute('aria-label', `Remove ${name ?? ''} from seat ${index + 1}`);
    mute.hidden = remove.hidden = !occupant;
  }

  #onClick(event: Event): void {
    const button = (event.target as Element).closest<HTMLElement>('[data-action]');
    const item = button?.closest<HTMLElement>('.seat');
    if (!button || !item) return;
    const seatIndex = Number(item.dataset['seat']);
    const occupant = this.#state?.seats?.occupants.get(seatIndex);
    switch (button.dataset['action']) {
      case 'seat':
        if (occupant && occupant.userId === this.#state?.self) return;
        return this.#act({ kind: 'take', seatIndex });
      case 'lock':
        return this.#act({ kind: this.#state?.seats?.locked.has(seatIndex) ? 'unlock' : 'lock', seatIndex });
      case 'mute':
        return occupant && this.#act({ kind: occupant.isMuted ? 'unmute' : 'mute', userId: occupant.userId });
      case 'remove':
        return occupant && this.#act({ kind: 'remove', userId: occupant.userId });
    }
  }

  /** Arrow keys walk the grid; Tab goes through it as through any buttons. */
  #onKey(event: KeyboardEvent): void {
    const current = this.#items.findIndex((item) => part(item, '.seat-main') === event.target);
    const columns = getComputedStyle(this.#list).gridTemplateColumns.split(' ').length;
    const steps: Record<string, number> = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const targets: Record<string, number> = { Home: 0, End: this.#items.length - 1 };
    const step = steps[event.key];
    const target = this.#items[step === undefined ? targets[event.key] ?? -1 : current + step];
    if (current < 0 || !target) return;
    event.preventDefault();
    part(target, '.seat-main').focus();
  }
}
