/** D-Bus values (D-Bus specification, "Type system" and "Marshaling"). 64-bit integers are bigints, variants are `Variant`s. */
export type Value = boolean | number | bigint | string | Variant | readonly Value[];

export interface Variant {
  readonly signature: string;
  readonly value: Value;
}

/** The complete types of a signature: `sa{sv}u` gives `s`, `a{sv}`, `u`. */
export function splitSignature(signature: string): string[] {
  const types: string[] = [];
  for (let at = 0; at < signature.length; ) {
    const end = typeEnd(signature, at);
    types.push(signature.slice(at, end));
    at = end;
  }
  return types;
}

const closing: Readonly<Record<string, string>> = { "(": ")", "{": "}" };

function typeEnd(signature: string, start: number): number {
  const code = signature[start] ?? "";
  if (code === "a") return typeEnd(signature, start + 1);
  const close = closing[code];
  if (close === undefined) return start + 1;
  let at = start + 1;
  while (signature[at] !== close) {
    if (at >= signature.length) throw new TypeError(`not a D-Bus signature: ${signature}`);
    at = typeEnd(signature, at);
  }
  return at + 1;
}

export function alignmentOf(type: string): number {
  const code = type[0] ?? "";
  if ("xtd({".includes(code)) return 8;
  if ("biuhsoa".includes(code)) return 4;
  return "nq".includes(code) ? 2 : 1;
}

/** Writes values in little-endian order; what cannot be written is a mistake of the caller's. */
export class Writer {
  private bytes = Buffer.alloc(256);
  length = 0;

  done(): Buffer {
    return this.bytes.subarray(0, this.length);
  }

  pad(alignment: number): void {
    while (this.length % alignment !== 0) this.room(1)[this.length++] = 0;
  }

  private room(more: number): Buffer {
    if (this.length + more > this.bytes.length) {
      this.bytes = Buffer.concat([this.bytes], Math.max(this.bytes.length * 2, this.length + more));
    }
    return this.bytes;
  }

  uint32(value: number): void {
    this.pad(4);
    this.room(4).writeUInt32LE(value, this.length);
    this.length += 4;
  }

  byte(value: number): void {
    this.room(1)[this.length++] = value;
  }

  private text(value: string, long: boolean): void {
    const encoded = Buffer.from(value);
    if (long) this.uint32(encoded.length);
    else this.byte(encoded.length);
    encoded.copy(this.room(encoded.length + 1), this.length);
    this.length += encoded.length;
    this.byte(0);
  }

  raw(bytes: Uint8Array): void {
    this.room(bytes.length).set(bytes, this.length);
    this.length += bytes.length;
  }

  value(type: string, value: Value): void {
    switch (type[0]) {
      case "y":
        this.byte(value as number);
        break;
      case "b":
        this.uint32(value === true ? 1 : 0);
        break;
      case "u":
        this.uint32(value as number);
        break;
      case "s":
      case "o":
        this.text(value as string, true);
        break;
      case "g":
        this.text(value as string, false);
        break;
      case "v": {
        const { signature, value: inner } = value as Variant;
        this.text(signature, false);
        this.value(signature, inner);
        break;
      }
      case "a": {
        const element = type.slice(1);
        this.uint32(0);
        const lengthAt = this.length - 4;
        this.pad(alignmentOf(element));
        const start = this.length;
        for (const each of value as readonly Value[]) this.value(element, each);
        this.bytes.writeUInt32LE(this.length - start, lengthAt);
        break;
      }
      case "(":
      case "{": {
        this.pad(8);
        const values = value as readonly Value[];
        for (const [index, inner] of splitSignature(type.slice(1, -1)).entries())
          this.value(inner, values[index] as Value);
        break;
      }
      default:
        throw new TypeError(`no value of this type is ever sent: ${type}`);
    }
  }
}

/** Reads values; anything that does not fit is a RangeError, which ends the connection. */
export class Reader {
  at = 0;
  private readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  pad(alignment: number): void {
    this.at = Math.ceil(this.at / alignment) * alignment;
  }

  private take(size: number): number {
    this.pad(size);
    const start = this.at;
    this.at += size;
    return start;
  }

  private text(length: number): string {
    if (this.at + length >= this.bytes.length) throw new RangeError("a string ends after its message");
    const text = this.bytes.toString("utf8", this.at, this.at + length);
    this.at += length + 1;
    return text;
  }

  value(type: string): Value {
    const { bytes } = this;
    switch (type[0]) {
      case "y":
        return bytes.readUInt8(this.take(1));
      case "b":
        return bytes.readUInt32LE(this.take(4)) !== 0;
      case "n":
        return bytes.readInt16LE(this.take(2));
      case "q":
        return bytes.readUInt16LE(this.take(2));
      case "i":
        return bytes.readInt32LE(this.take(4));
      case "u":
      case "h":
        return bytes.readUInt32LE(this.take(4));
      case "x":
        return bytes.readBigInt64LE(this.take(8));
      case "t":
        return bytes.readBigUInt64LE(this.take(8));
      case "d":
        return bytes.readDoubleLE(this.take(8));
      case "s":
      case "o":
        return this.text(bytes.readUInt32LE(this.take(4)));
      case "g":
        return this.text(bytes.readUInt8(this.take(1)));
      case "v": {
        const signature = this.value("g") as string;
        return { signature, value: this.value(signature) };
      }
      case "a": {
        const length = bytes.readUInt32LE(this.take(4));
        const element = type.slice(1);
        this.pad(alignmentOf(element));
        const end = this.at + length;
        if (end > bytes.length) throw new RangeError("an array ends after its message");
        const values: Value[] = [];
        while (this.at < end) values.push(this.value(element));
        return values;
      }
      case "(":
      case "{":
        this.pad(8);
        return splitSignature(type.slice(1, -1)).map((inner) => this.value(inner));
      default:
        throw new RangeError(`an unknown type: ${type}`);
    }
  }

  values(signature: string): Value[] {
    return splitSignature(signature).map((type) => this.value(type));
  }
}
