import { connect, type Socket } from "node:net";
import process from "node:process";
import type { Value } from "./marshal.ts";
import { type Call, decodeMessage, encodeCall, type Message } from "./message.ts";

/** A call that was answered by an error: `org.freedesktop.systemd1.NoSuchUnit` and the like. */
export class DbusError extends Error {
  constructor(name: string, message: string) {
    super(message);
    this.name = name;
  }
}

export interface Bus {
  /** @throws DbusError for an error in answer; Error when no answer comes in time, or the connection ends */
  call(call: Call): Promise<readonly Value[]>;
  /** Is called with every signal until the connection ends. */
  onSignal(listener: (message: Message) => void): void;
  /** Resolves when the other end is gone. */
  readonly closed: Promise<void>;
  close(): void;
}

/** A bus that does not answer is as good as none; restarts themselves are signalled, not waited for in a call. */
const answerMs = 25_000;
const handshakeMs = 3_000;

/** How long to wait, in milliseconds. */
export interface Patience {
  readonly handshake: number;
  readonly answer: number;
}

/**
 * Connects to a bus, or to the one program behind a private socket, as the user that this runs as.
 * Our own 200 lines instead of a library: none of those there are has a time-out for the handshake or works on
 * systemd's private socket under both runtimes, and they bring an XML parser.
 *
 * @param direct no bus daemon in between: nobody to say Hello to
 */
export async function connectBus(
  path: string,
  direct: boolean,
  patience: Patience = { handshake: handshakeMs, answer: answerMs },
): Promise<Bus> {
  const socket = await opened(path, patience.handshake);
  let serial = 0;
  let arrived = Buffer.alloc(0);
  const waiting = new Map<number, (message: Message | Error) => void>();
  const listeners: ((message: Message) => void)[] = [];
  let markClosed: () => void = () => undefined;
  const closed = new Promise<void>((resolve) => {
    markClosed = resolve;
  });
  const fail = (error: Error) => {
    for (const answer of waiting.values()) answer(error);
    waiting.clear();
    socket.destroy();
    markClosed();
  };
  const take = (message: Message) => {
    if (message.type === "signal") for (const listener of listeners) listener(message);
    const answer = waiting.get(message.replySerial ?? 0);
    if (answer === undefined || (message.type !== "return" && message.type !== "error")) return;
    waiting.delete(message.replySerial ?? 0);
    answer(message);
  };
  socket.on("data", (chunk: Buffer) => {
    arrived = Buffer.concat([arrived, chunk]);
    try {
      for (let next = decodeMessage(arrived); next !== undefined; next = decodeMessage(arrived)) {
        arrived = arrived.subarray(next.size);
        take(next.message);
      }
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  });
  socket.on("error", fail);
  socket.on("close", () => fail(new Error("the connection to the bus ended")));

  const bus: Bus = {
    call: (call) =>
      new Promise((resolve, reject) => {
        if (socket.destroyed) return reject(new Error("the connection to the bus ended"));
        const own = ++serial;
        const timer = setTimeout(() => {
          waiting.delete(own);
          reject(new Error(`the bus did not answer ${call.member} within ${patience.answer / 1000} s`));
        }, patience.answer);
        waiting.set(own, (answer) => {
          clearTimeout(timer);
          if (answer instanceof Error) return reject(answer);
          if (answer.type === "return") return resolve(answer.body);
          const [text] = answer.body;
          reject(new DbusError(answer.errorName ?? "error", typeof text === "string" ? text : ""));
        });
        socket.write(encodeCall(call, own));
      }),
    onSignal: (listener) => listeners.push(listener),
    closed,
    close: () => socket.destroy(),
  };
  if (!direct) {
    const daemon = "org.freedesktop.DBus";
    const hello = { destination: daemon, path: "/org/freedesktop/DBus", iface: daemon, member: "Hello" };
    try {
      await bus.call(hello);
    } catch (error) {
      bus.close();
      throw error;
    }
  }
  return bus;
}

/** EXTERNAL: the kernel tells the other end who we are (D-Bus specification, "Authentication Protocol"). */
function opened(path: string, withinMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const timer = setTimeout(() => end(new Error("the bus did not answer")), withinMs);
    const end = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    const uid = Buffer.from(String(process.geteuid?.() ?? 0)).toString("hex");
    let text = "";
    const onData = (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (!text.includes("\r\n")) return;
      if (!text.startsWith("OK ")) return end(new Error(`the bus refused us: ${text.trim().slice(0, 60)}`));
      clearTimeout(timer);
      for (const [name, listener] of Object.entries(during)) socket.off(name, listener);
      socket.write("BEGIN\r\n");
      resolve(socket);
    };
    const during = { data: onData, error: end, close: () => end(new Error("the bus ended the connection")) };
    for (const [name, listener] of Object.entries(during)) socket.on(name, listener);
    socket.on("connect", () => socket.write(`\0AUTH EXTERNAL ${uid}\r\n`));
  });
}
