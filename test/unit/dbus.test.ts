import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import fc from "fast-check";
import { type Bus, connectBus } from "../../src/host/dbus/connection.ts";
import { Reader, splitSignature, type Value, Writer } from "../../src/host/dbus/marshal.ts";
import { decodeMessage } from "../../src/host/dbus/message.ts";
import { loadedServices } from "../../src/host/systemd.ts";

/** A signature with a value of that type. */
const typed: fc.Arbitrary<readonly [string, Value]> = fc.letrec<{ any: readonly [string, Value] }>((tie) => ({
  any: fc.oneof(
    { maxDepth: 3 },
    fc.integer({ min: 0, max: 255 }).map((value) => ["y", value] as const),
    fc.boolean().map((value) => ["b", value] as const),
    fc.nat({ max: 2 ** 32 - 1 }).map((value) => ["u", value] as const),
    fc.string({ unit: "grapheme" }).map((value) => ["s", value.replaceAll("\0", "")] as const),
    tie("any").map(([signature, value]) => ["v", { signature, value }] as const),
    fc
      .tuple(tie("any"), fc.nat({ max: 3 }))
      .map(([[signature, value], count]) => [`a${signature}`, Array<Value>(count).fill(value)] as const),
    fc
      .array(tie("any"), { minLength: 1, maxLength: 3 })
      .map((all) => [`(${all.map(([s]) => s).join("")})`, all.map(([, value]) => value)] as const),
  ),
})).any;

describe("values", () => {
  test("are read as they were written, wherever they begin", () => {
    fc.assert(
      fc.property(typed, fc.nat({ max: 7 }), ([signature, value], before) => {
        const writer = new Writer();
        for (let count = 0; count < before; count++) writer.byte(0);
        writer.value(signature, value);
        const reader = new Reader(writer.done());
        reader.at = before;
        expect(reader.value(signature)).toEqual(value);
        expect(reader.at).toBe(writer.length);
      }),
      { numRuns: 500 },
    );
  });

  test("are aligned as the specification's example is", () => {
    // D-Bus specification, "Marshaling containers": an array of one 64-bit integer, padded before its first element.
    const bytes = Buffer.from("0800000000000000" + "0500000000000000", "hex");
    expect(new Reader(bytes).value("at")).toEqual([5n]);
  });

  test("that end after their message are refused", () => {
    for (const [signature, hex] of [
      ["s", "ff00000061"],
      ["as", "ffffff7f"],
      ["u", "0100"],
    ] as const)
      expect(() => new Reader(Buffer.from(hex, "hex")).value(signature)).toThrow(RangeError);
  });

  test("have signatures that are taken apart", () => {
    expect(splitSignature("sa{sv}u(ii)aay")).toEqual(["s", "a{sv}", "u", "(ii)", "aay"]);
  });
});

/** A made-up program at the other end; what it says to each call is up to the test. */
async function withServer(
  talk: (socket: Socket, serial: number, member: string) => void,
  work: (path: string) => Promise<void>,
  hello = "OK 0123\r\n",
): Promise<void> {
  const folder = mkdtempSync(`${tmpdir()}/shimctl-dbus-`);
  const path = `${folder}/bus`;
  const server = createServer((socket) => {
    let begun = false;
    let rest = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      if (!begun) {
        const text = rest.toString("latin1");
        if (text.startsWith("\0AUTH EXTERNAL ") && text.endsWith("\r\n")) socket.write(hello);
        if (!text.includes("BEGIN\r\n")) {
          rest = text.startsWith("\0AUTH") ? Buffer.alloc(0) : rest;
          return;
        }
        begun = true;
        rest = rest.subarray(text.indexOf("BEGIN\r\n") + 7);
      }
      for (let next = decodeMessage(rest); next !== undefined; next = decodeMessage(rest)) {
        rest = rest.subarray(next.size);
        talk(socket, next.message.serial, next.message.member ?? "");
      }
    });
  }).listen(path);
  try {
    await work(path);
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
}

/** A reply, or an error, by the specification's layout. */
function reply(serial: number, text: string, errorName?: string): Buffer {
  const body = new Writer();
  body.value("s", text);
  const header = new Writer();
  for (const byte of ["l".charCodeAt(0), errorName === undefined ? 2 : 3, 0, 1]) header.byte(byte);
  header.uint32(body.length);
  header.uint32(99);
  header.value("a(yv)", [
    [5, { signature: "u", value: serial }],
    [8, { signature: "g", value: "s" }],
    ...(errorName === undefined ? [] : [[4, { signature: "s", value: errorName }] as Value]),
  ]);
  header.pad(8);
  header.raw(body.done());
  return header.done();
}

const call = { destination: "a.b", path: "/a", iface: "a.b", member: "Ask" };

async function using(bus: Bus, work: (bus: Bus) => Promise<void>): Promise<void> {
  try {
    await work(bus);
  } finally {
    bus.close();
  }
}

describe("a connection", () => {
  test("puts answers together that come in pieces, and gives each call its own", () =>
    withServer(
      (socket, serial, member) => {
        const bytes = reply(serial, member);
        for (const byte of bytes) socket.write(Buffer.from([byte]));
      },
      async (path) =>
        using(await connectBus(path, true), async (bus) => {
          const answers = ["One", "Two", "Three"].map((member) => bus.call({ ...call, member }));
          expect(await Promise.all(answers)).toEqual([["One"], ["Two"], ["Three"]]);
        }),
    ));

  test("tells an error by its name and its words", () =>
    withServer(
      (socket, serial) => socket.write(reply(serial, "no such unit", "org.example.NoSuchUnit")),
      async (path) =>
        using(await connectBus(path, true), async (bus) => {
          const error = await bus.call(call).catch((thrown: Error) => thrown);
          expect(error).toMatchObject({ name: "org.example.NoSuchUnit", message: "no such unit" });
        }),
    ));

  test("that ends, or speaks nonsense, fails the calls that wait", () =>
    withServer(
      (socket, _, member) => (member === "End" ? socket.destroy() : socket.write(Buffer.alloc(64, 0xff))),
      async (path) => {
        for (const member of ["End", "Nonsense"]) {
          await using(await connectBus(path, true), async (bus) => {
            expect(
              await bus.call({ ...call, member }).then(
                () => "answered",
                () => "failed",
              ),
            ).toBe("failed");
            await bus.closed;
          });
        }
      },
    ));

  test("that is refused, or not there, fails at once", async () => {
    expect(connectBus("/nowhere/bus", true)).rejects.toThrow("ENOENT");
    await withServer(
      () => undefined,
      async (path) => {
        expect(connectBus(path, true)).rejects.toThrow("refused us: REJECTED");
      },
      "REJECTED EXTERNAL\r\n",
    );
  });

  test("on which nobody speaks is given up", () =>
    withServer(
      () => undefined,
      async (path) => {
        expect(
          await connectBus(path, true).then(
            () => "connected",
            (error: Error) => error.message,
          ),
        ).toBe("the bus did not answer");
      },
      "",
    ));
});

test("a bus that refuses, says nothing, or never answers tells nothing of the node's services, and soon", async () => {
  const ask = async (path: string) => {
    const begun = performance.now();
    expect(await loadedServices({ system: path, direct: `${path}-none` }, ["a*"], [], 200)).toBeUndefined();
    expect(performance.now() - begun).toBeLessThan(10_000);
  };
  await withServer(() => undefined, ask, "REJECTED EXTERNAL\r\n");
  await withServer(() => undefined, ask, "");
  await withServer(() => undefined, ask);
  await ask("/nowhere/bus");
});
