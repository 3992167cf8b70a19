// The page: shows what it is given and reports what is pressed. No rules here.

import type { Connection } from './client';
import { initials, paintAvatar, part, setText } from './dom';
import type { Prefill } from './identity';
import type { UserId } from './protocol';
import { people, seatOf, type Person, type RoomState, type Voice } from './room-state';
import { SeatGrid, type SeatAction } from './seat-grid';

export interface JoinForm extends Prefill {
  role: string;
}

export interface Actions {
  join(form: JoinForm): void;
  leaveRoom(): void;
  /** The microphone's button: speak, mute or unmute, as it says. */
  mic(): void;
  leaveSeat(): void;
  seat(action: SeatAction): void;
  kick(userId: UserId): void;
  ban(userId: UserId, seconds: number | undefined, reason: string): void;
  unblockSound(): void;
}

export interface RoomModel {
  state: RoomState;
  connection: Connection;
  mic: 'off' | 'opening' | 'live' | 'muted';
}

const CONNECTIONS: Readonly<Record<Connection, string>> = {
  idle: '',
  connecting: 'Connecting…',
  joined: 'Connected',
  reconnecting: 'Reconnecting…',
  closed: 'Disconnected',
};
const MIC_LABELS = { off: 'Speak', opening: 'Opening…', live: 'Mute', muted: 'Unmute' } as const;
const VOICE_NOTES: Readonly<Record<Voice, string>> = {
  none: 'listening', live: 'microphone on', muted: 'muted', held: 'muted by a manager',
};
const TOAST_MS = 8_000;
const FEED_LENGTH = 100;

export class View {
  readonly #actions: Actions;
  readonly #grid: SeatGrid;
  readonly #persons = new Map<UserId, HTMLElement>();
  #model: RoomModel | undefined;
  #managing = false;
  #banned: UserId | undefined;

  constructor(actions: Actions) {
    this.#actions = actions;
    this.#grid = new SeatGrid(el('seats'), el<HTMLTemplateElement>('seat-template'), (action) => actions.seat(action));
    el<HTMLFormElement>('join-form').addEventListener('submit', (event) => {
      event.preventDefault();
      actions.join(this.#readForm());
    });
    el('leave-room').addEventListener('click', () => actions.leaveRoom());
    el('mic').addEventListener('click', () => actions.mic());
    el('leave-seat').addEventListener('click', () => actions.leaveSeat());
    el('sound').addEventListener('click', () => {
      el('sound').hidden = true;
      actions.unblockSound();
    });
    el('manage').addEventListener('click', () => this.manage(!this.#managing));
    el('people').addEventListener('click', (event) => this.#onPerson(event));
    const dialog = el<HTMLDialogElement>('ban-dialog');
    dialog.addEventListener('close', () => this.#onBanDialog(dialog.returnValue));
  }

  /** The form to join with, and why one is back at it. */
  showLobby({ name, room, token }: Prefill, notice = ''): void {
    field('name').value = name;
    field('room').value = room;
    field('token').value = token;
    if (token) this.#showToken();
    el('lobby').hidden = false;
    el('stage').hidden = true;
    document.title = 'voice-room';
    this.joining(false);
    setText(el('lobby-notice'), notice);
    (name ? el('join') : el('name')).focus();
  }

  joining(isJoining: boolean): void {
    setText(el('join'), isJoining ? 'Joining…' : 'Join');
    el('join').setAttribute('aria-busy', String(isJoining));
    if (isJoining) setText(el('lobby-notice'), '');
  }

  /** For servers that hand out no tokens. */
  askForToken(): void {
    this.#showToken();
    field('token').required = true;
    this.joining(false);
    field('token').focus();
  }

  showRoom(room: string, secondTab: string): void {
    el('lobby').hidden = true;
    el('stage').hidden = false;
    document.title = `${room} – voice-room`;
    setText(el('room-name'), room);
    el<HTMLAnchorElement>('second-tab').href = secondTab;
    el('feed').replaceChildren();
    el('sound').hidden = true;
    el('room-name').focus();
  }

  manage(managing: boolean): void {
    this.#managing = managing;
    el('manage').setAttribute('aria-pressed', String(managing));
    if (this.#model) this.render(this.#model);
  }

  render(model: RoomModel): void {
    this.#model = model;
    const { state, connection, mic } = model;
    setText(el('connection'), CONNECTIONS[connection]);
    el('connection').dataset['state'] = connection;
    el('seats-section').hidden = !state.seats;
    this.#grid.render(state, this.#managing);
    this.#renderPeople(people(state));
    setText(el('mic'), MIC_LABELS[mic]);
    el('mic').dataset['state'] = mic;
    el('mic').setAttribute('aria-busy', String(mic === 'opening'));
    const seat = seatOf(state, state.self);
    if (seat === undefined && document.activeElement === el('leave-seat')) el('mic').focus();
    el('leave-seat').hidden = seat === undefined;
    setText(el('own-status'), ownStatus(model, seat));
  }

  /** Live levels, 0 to 1. */
  showLevels(levelOf: (userId: UserId) => number, own: number): void {
    this.#grid.showLevels(levelOf);
    for (const [userId, item] of this.#persons) item.style.setProperty('--level', levelOf(userId).toFixed(2));
    el('own-meter').style.setProperty('--level', own.toFixed(2));
  }

  /** Adds a line to what happened. */
  log(text: string, event: string): void {
    const line = document.createElement('li');
    const time = document.createElement('time');
    time.textContent = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });
    line.dataset['event'] = event;
    line.append(time, ' ', text);
    const feed = el('feed');
    feed.append(line);
    if (feed.children.length > FEED_LENGTH) feed.firstElementChild?.remove();
    feed.scrollTop = feed.scrollHeight;
  }

  /** Interrupts with a sentence. */
  toast(text: string): void {
    const toast = document.createElement('div');
    toast.className = 'toast';
    toast.dataset['testid'] = 'toast';
    const words = document.createElement('span');
    words.textContent = text;
    const dismiss = document.createElement('button');
    dismiss.type = 'button';
    dismiss.textContent = '×';
    dismiss.setAttribute('aria-label', 'Dismiss');
    dismiss.addEventListener('click', () => toast.remove());
    toast.append(words, dismiss);
    el('toasts').append(toast);
    setTimeout(() => toast.remove(), TOAST_MS);
  }

  /** The browser plays nothing before a click. */
  offerSound(): void {
    el('sound').hidden = false;
  }

  /** A token brings its own roles. */
  #showToken(): void {
    el('token-field').hidden = false;
    el('role-field').hidden = true;
  }

  #readForm(): JoinForm {
    return {
      name: field('name').value.trim(),
      room: field('room').value.trim(),
      role: el<HTMLSelectElement>('role').value,
      token: field('token').value.trim(),
    };
  }

  #renderPeople(persons: Person[]): void {
    setText(el('people-count'), String(persons.length));
    const present = new Set(persons.map(({ userId }) => userId));
    for (const [userId, item] of this.#persons) {
      if (present.has(userId)) continue;
      item.remove();
      this.#persons.delete(userId);
    }
    let previous: HTMLElement | undefined;
    for (const person of persons) {
      const item = this.#person(person.userId);
      this.#renderPerson(item, person);
      const isInPlace = previous ? previous.nextElementSibling === item : el('people').firstElementChild === item;
      if (!isInPlace) previous ? previous.after(item) : el('people').prepend(item);
      previous = item;
    }
  }

  #person(userId: UserId): HTMLElement {
    let item = this.#persons.get(userId);
    if (!item) {
      const template = el<HTMLTemplateElement>('person-template');
      item = part(template.content.cloneNode(true) as DocumentFragment, '.person');
      item.dataset['user'] = String(userId);
      paintAvatar(part(item, '.avatar'), userId);
      this.#persons.set(userId, item);
    }
    return item;
  }

  #renderPerson(item: HTMLElement, { name, isSelf, voice, isSpeaking, seatIndex }: Person): void {
    item.dataset['voice'] = voice;
    item.toggleAttribute('data-speaking', isSpeaking);
    setText(part(item, '.avatar'), initials(name));
    setText(part(item, '.person-name'), isSelf ? `${name} (you)` : name);
    const seat = seatIndex === undefined ? '' : `seat ${seatIndex + 1}, `;
    setText(part(item, '.person-note'), seat + (isSpeaking && voice === 'live' ? 'speaking' : VOICE_NOTES[voice]));
    part(item, '.manage-actions').hidden = !this.#managing || isSelf;
    part(item, '[data-action=kick]').setAttribute('aria-label', `Kick ${name}`);
    part(item, '[data-action=ban]').setAttribute('aria-label', `Ban ${name}`);
  }

  #onPerson(event: Event): void {
    const button = (event.target as Element).closest<HTMLElement>('[data-action]');
    const item = button?.closest<HTMLElement>('.person');
    if (!button || !item) return;
    const userId = Number(item.dataset['user']);
    if (button.dataset['action'] === 'kick') return this.#actions.kick(userId);
    this.#banned = userId;
    setText(el('ban-title'), `Ban ${part(item, '.person-name').textContent ?? ''}`);
    const dialog = el<HTMLDialogElement>('ban-dialog');
    dialog.returnValue = '';
    dialog.showModal();
  }

  #onBanDialog(answer: string): void {
    if (answer !== 'ban' || this.#banned === undefined) return;
    const seconds = el<HTMLSelectElement>('ban-seconds').value;
    this.#actions.ban(this.#banned, seconds ? Number(seconds) : undefined, field('ban-reason').value.trim());
  }
}

function ownStatus({ state, mic }: RoomModel, seat: number | undefined): string {
  const isHeld = people(state).some(({ isSelf, voice }) => isSelf && voice === 'held');
  if (isHeld) return 'A manager has muted you';
  if (mic === 'live') return 'You are live';
  if (mic === 'muted') return 'You are muted';
  if (seat !== undefined) return `You have seat ${seat + 1}`;
  return state.seats ? 'Take a seat to speak' : 'You are listening';
}

function el<E extends HTMLElement = HTMLElement>(id: string): E {
  return part<E>(document, `#${id}`);
}

const field = (id: string): HTMLInputElement => el<HTMLInputElement>(id);
