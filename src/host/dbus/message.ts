import { Reader, type Value, type Variant, Writer } from "./marshal.ts";

export interface Message {
  readonly type: "call" | "return" | "error" | "signal" | "unknown";
  readonly serial: number;
  readonly replySerial?: number;
  readonly path?: string;
  readonly iface?: string;
  readonly member?: string;
  readonly errorName?: string;
  readonly body: readonly Value[];
}

export interface Call {
  readonly destination: string;
  readonly path: string;
  readonly iface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly Value[];
}

const types = ["unknown", "call", "return", "error", "signal"] as const;
const little = "l".charCodeAt(0);
/** Header fields (D-Bus specification, "Message Format"). */
const field = { path: 1, iface: 2, member: 3, errorName: 4, replySerial: 5, destination: 6, signature: 8 };
/** As the specification has it; a message that claims more is no D-Bus message. */
const longest = 1 << 27;

export function encodeCall(call: Call, serial: number): Buffer {
  const body = new Writer();
  const { signature = "", body: values = [] } = call;
  body.value(`(${signature})`, values);
  const header = new Writer();
  for (const byte of [little, types.indexOf("call"), 0, 1]) header.byte(byte);
  header.uint32(body.length);
  header.uint32(serial);
  const fields: Value[] = [
    [field.path, variant("o", call.path)],
    [field.iface, variant("s", call.iface)],
    [field.member, variant("s", call.member)],
    [field.destination, variant("s", call.destination)],
    ...(signature === "" ? [] : [[field.signature, variant("g", signature)]]),
  ];
  header.value("a(yv)", fields);
  header.pad(8);
  header.raw(body.done());
  return header.done();
}

function variant(signature: string, value: Value): Variant {
  return { signature, value };
}

/** The first message of what has arrived, and how long it is; `undefined` until it is complete. */
export function decodeMessage(bytes: Buffer): { message: Message; size: number } | undefined {
  if (bytes.length < 16) return undefined;
  if (bytes[0] !== little) throw new RangeError("the other end does not speak little-endian D-Bus");
  const bodySize = bytes.readUInt32LE(4);
  const fieldsSize = bytes.readUInt32LE(12);
  const bodyAt = Math.ceil((16 + fieldsSize) / 8) * 8;
  const size = bodyAt + bodySize;
  if (size > longest) throw new RangeError(`a message of ${size} bytes`);
  if (bytes.length < size) return undefined;
  const whole = bytes.subarray(0, size);
  const header = new Reader(whole);
  header.at = 12;
  const fields = new Map<number, Value>();
  for (const entry of header.value("a(yv)") as readonly (readonly [number, Variant])[])
    fields.set(entry[0], entry[1].value);
  const text = (code: number) => fields.get(code) as string | undefined;
  const body = new Reader(whole);
  body.at = bodyAt;
  const replySerial = fields.get(field.replySerial) as number | undefined;
  const [path, iface, member, errorName] = [field.path, field.iface, field.member, field.errorName].map(text);
  return {
    size,
    message: {
      type: types[whole[1] ?? 0] ?? "unknown",
      serial: whole.readUInt32LE(8),
      ...(replySerial === undefined ? {} : { replySerial }),
      ...(path === undefined ? {} : { path }),
      ...(iface === undefined ? {} : { iface }),
      ...(member === undefined ? {} : { member }),
      ...(errorName === undefined ? {} : { errorName }),
      body: body.values(text(field.signature) ?? ""),
    },
  };
}
