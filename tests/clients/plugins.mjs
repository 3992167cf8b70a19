// Plugins in a folder of their own, to be replaced while a server runs them.

import { copyFile, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { temporary } from './server.mjs';

const built = resolve(fileURLToPath(new URL('.', import.meta.url)), '../../target');

/** The component that `make plugins` or `make test-guests` has built; its manifest is beside it. */
export const component = (name) =>
  join(built, name === 'fixture-plugin' ? 'plugins-test' : 'plugins', `${name}.wasm`);

/** The bytes of a component with a custom section that changes nothing but its content. */
export async function variant(name, number) {
  const section = Buffer.from([0, 3, 1, 0x76, number]);
  return Buffer.concat([await readFile(component(name)), section]);
}

/** A folder with one plugin in it, at first `name`. */
export async function installed(name) {
  const temp = await temporary();
  const folder = new Folder(join(temp.path, 'plugins'), temp);
  await mkdir(folder.path);
  await folder.install(name);
  return folder;
}

class Folder {
  #temp;

  constructor(path, temp) {
    this.path = path;
    this.file = join(path, 'plugin.wasm');
    this.#temp = temp;
  }

  /** Has `name`, or these bytes of it, take the place of what is there, manifest first. */
  async install(name, bytes) {
    const aside = join(this.path, 'new');
    await copyFile(component(name).replace(/wasm$/, 'toml'), aside);
    await rename(aside, join(this.path, 'plugin.toml'));
    await writeFile(aside, bytes ?? (await readFile(component(name))));
    await rename(aside, this.file);
  }

  /** The `[[plugins]]` of a configuration: `lines` are further keys. */
  plugin(name, lines = '') {
    return `[[plugins]]\nname = "${name}"\npath = ${JSON.stringify(this.file)}\ngrants = ["*"]\n${lines}\n`;
  }

  remove() {
    return this.#temp.remove();
  }
}
