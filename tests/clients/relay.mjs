// A network between clients and the server that can break: TCP and UDP go
// through it, and while it is cut nothing does, not even the end of a connection.

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

const HOST = '127.0.0.1';

export class Relay {
  #server;
  #target;
  #cut = false;
  /** What is made on mending: connections that came while nothing went through. */
  #held = [];
  /** The clients' ends of connections that were cut. */
  #dead = [];
  #ends = new Set();
  #doors = new Map();

  /** A relay to this server. */
  static async to({ url }) {
    const relay = new Relay();
    relay.#target = Number(new URL(url).port);
    relay.#server = createServer((client) => relay.#accept(client)).listen(0, HOST);
    await once(relay.#server, 'listening');
    return relay;
  }

  /** Where clients connect instead. */
  get url() {
    return `http://${HOST}:${this.#server.address().port}`;
  }

  /**
   * The network is gone. Connections that there are never carry anything again,
   * and neither end hears of it.
   */
  cut() {
    this.#cut = true;
    for (const end of this.#ends) {
      end.unpipe();
      end.removeAllListeners('data').removeAllListeners('end');
      end.pause();
      if (end.localPort === this.#server.address().port) this.#dead.push(end);
    }
    for (const door of this.#doors.values()) door.forget();
  }

  /**
   * The network is back: new connections go through, and UDP from new addresses. It
   * knows nothing of the connections from before, and says so to clients that still try.
   */
  mend() {
    this.#cut = false;
    for (const client of this.#dead.splice(0)) client.resetAndDestroy();
    for (const client of this.#held.splice(0)) this.#join(client);
  }

  #accept(client) {
    client.on('error', () => {});
    this.#ends.add(client);
    client.once('close', () => this.#ends.delete(client));
    if (this.#cut) this.#held.push(client.pause());
    else this.#join(client);
  }

  #join(client) {
    if (client.destroyed) return;
    const server = connect({ port: this.#target, host: HOST, allowHalfOpen: true });
    this.#ends.add(server);
    server.on('error', () => client.destroy());
    server.once('close', () => this.#ends.delete(server));
    client.pipe(server);
    server.pipe(client);
  }

  /** An ICE candidate as it is seen from this side of the relay. */
  async candidate({ ip, address = ip, port, ...rest }) {
    const name = `${address}:${port}`;
    if (!this.#doors.has(name)) this.#doors.set(name, new Door(address, port, () => this.#cut));
    const door = this.#doors.get(name);
    await door.opened;
    return { ...rest, address: HOST, ip: HOST, port: door.port };
  }

  close() {
    this.#server.close();
    for (const end of this.#ends) end.destroy();
    for (const door of this.#doors.values()) door.close();
  }
}

/** A port of the relay that stands for one of the server's. */
class Door {
  #inside = createSocket('udp4');
  /** For each client, the socket from which the server hears it. */
  #outside = new Map();

  constructor(address, port, isCut) {
    const inside = this.#inside;
    inside.on('message', (datagram, from) => {
      if (isCut()) return;
      const client = `${from.address}:${from.port}`;
      if (!this.#outside.has(client)) {
        const socket = createSocket('udp4');
        socket.on('message', (answer) => {
          if (!isCut()) inside.send(answer, from.port, from.address);
        });
        this.#outside.set(client, socket);
      }
      this.#outside.get(client).send(datagram, port, address);
    });
    inside.bind(0, HOST);
    this.opened = once(inside, 'listening');
  }

  get port() {
    return this.#inside.address().port;
  }

  /** Clients are heard from other ports from now on, as behind another network. */
  forget() {
    for (const socket of this.#outside.values()) socket.close();
    this.#outside.clear();
  }

  close() {
    this.forget();
    this.#inside.close();
  }
}
