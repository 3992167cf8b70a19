// Reading JSON that somebody else wrote, and naming the field at fault.

import { Refusal } from './answers.js';

/** What is wrong with a field. */
class Fault extends Error {
  constructor(field, problem) {
    super(field === '' ? problem : `\`${field}\`: ${problem}`);
    this.field = field;
    this.problem = problem;
  }
}

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const inside = (path, name) => (path === '' ? name : `${path}.${name}`);
const show = (value) => {
  const shown = JSON.stringify(value);
  return shown.length > 40 ? `${shown.slice(0, 40)}…` : shown;
};

function expect(holds, path, wanted, value) {
  if (value === undefined) throw new Fault(path, 'is missing');
  if (!holds) throw new Fault(path, `must be ${wanted}, not ${show(value)}`);
  return value;
}

export const boolean = () => (value, path) =>
  expect(typeof value === 'boolean', path, 'true or false', value);

export const integer =
  ({ min = Number.MIN_SAFE_INTEGER, max = Number.MAX_SAFE_INTEGER } = {}) =>
  (value, path) => {
    const bounds = [
      min === Number.MIN_SAFE_INTEGER ? [] : [`at least ${min}`],
      max === Number.MAX_SAFE_INTEGER ? [] : [`at most ${max}`],
    ].flat();
    const wanted = ['a whole number', ...bounds].join(', ');
    return expect(Number.isSafeInteger(value) && value >= min && value <= max, path, wanted, value);
  };

export const string =
  ({ pattern, like = 'text' } = {}) =>
  (value, path) =>
    expect(typeof value === 'string' && (!pattern || pattern.test(value)), path, like, value);

export const oneOf =
  (...known) =>
  (value, path) =>
    expect(known.includes(value), path, `one of ${known.map(show).join(', ')}`, value);

export const list = (field) => (value, path) =>
  expect(Array.isArray(value), path, 'a list', value).map((item, at) => field(item, `${path}[${at}]`));

export const map = (field) => (value, path) =>
  Object.fromEntries(
    Object.entries(expect(isObject(value), path, 'a table', value)).map(([name, item]) => [
      name,
      field(item, inside(path, name)),
    ]),
  );

export const optional = (field, otherwise) => (value, path) =>
  value === undefined || value === null ? otherwise : field(value, path);

export const where = (field, holds, problem) => (value, path) => {
  const read = field(value, path);
  if (!holds(read)) throw new Fault(path, problem);
  return read;
};

const shaped = (shape, strict) => (value, path) => {
  expect(isObject(value), path, 'a table', value);
  const known = Object.keys(shape);
  const unknown = strict && Object.keys(value).find((name) => !known.includes(name));
  if (unknown) {
    throw new Fault(inside(path, unknown), `is unknown; known are ${known.join(', ')}`);
  }
  return Object.fromEntries(
    known.map((name) => [name, shape[name](value[name], inside(path, name))]),
  );
};

export const object = (shape) => shaped(shape, true);

export function readSettings(settings, shape) {
  try {
    return object(shape)(settings, '');
  } catch (error) {
    throw error instanceof Fault ? new Error(`settings: ${error.message}`) : error;
  }
}

export function readPayload(call, shape) {
  try {
    return shaped(shape, false)(call.payload, '');
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    const { field, problem } = error;
    const details = [field === '' ? { problem } : { field, problem }];
    throw new Refusal('INVALID_PAYLOAD', 'INVALID_PAYLOAD', details);
  }
}
