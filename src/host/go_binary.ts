import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";

const magic = "\xff Go buildinf:";
const sentinel = 16;

/**
 * What the Go toolchain stamped into a binary, read without running it (Go: debug/buildinfo).
 * `undefined` for anything that is not a 64-bit little-endian ELF file built by Go 1.18 or later.
 */
export function readGoModule(file: string): { path: string; version: string } | undefined {
  let fd: number;
  try {
    // A pipe would keep us waiting for whoever writes into it.
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    if (!fstatSync(fd).isFile()) return undefined;
    const section = buildInfoSection(fd);
    return section === undefined ? undefined : parseBuildInfo(section);
  } catch (error) {
    if (error instanceof RangeError) return undefined;
    throw error;
  } finally {
    closeSync(fd);
  }
}

function readAt(fd: number, offset: number, length: number): DataView {
  const bytes = new Uint8Array(length);
  const read = readSync(fd, bytes, 0, length, offset);
  return new DataView(bytes.buffer, 0, read);
}

/** The bytes from `.go.buildinfo` on: the strings that it announces follow its header. */
function buildInfoSection(fd: number): Uint8Array | undefined {
  const header = readAt(fd, 0, 64);
  if (
    header.byteLength < 64 ||
    header.getUint32(0) !== 0x7f454c46 ||
    header.getUint8(4) !== 2 ||
    header.getUint8(5) !== 1
  ) {
    return undefined;
  }
  const size = fstatSync(fd).size;
  const table = Number(header.getBigUint64(40, true));
  const entry = header.getUint16(58, true);
  const count = header.getUint16(60, true);
  const names = header.getUint16(62, true);
  if (entry < 64 || table + entry * count > size || entry * count > 1 << 24) return undefined;
  const sections = readAt(fd, table, entry * count);
  const place = (index: number) => ({
    name: sections.getUint32(index * entry, true),
    offset: Number(sections.getBigUint64(index * entry + 24, true)),
    size: Number(sections.getBigUint64(index * entry + 32, true)),
  });
  const strings = place(names);
  if (strings.size > 1 << 20) return undefined;
  const text = Buffer.from(readAt(fd, strings.offset, strings.size).buffer).toString("latin1");
  for (let index = 0; index < count; index++) {
    const section = place(index);
    const end = text.indexOf("\0", section.name);
    if (text.slice(section.name, end) !== ".go.buildinfo") continue;
    const view = readAt(fd, section.offset, Math.min(section.size, 1 << 20));
    return new Uint8Array(view.buffer, 0, view.byteLength);
  }
  return undefined;
}

function parseBuildInfo(bytes: Uint8Array): { path: string; version: string } | undefined {
  const head = Buffer.from(bytes.subarray(0, magic.length)).toString("latin1");
  // Bit 1 of the flags: the strings stand inline, as since Go 1.18.
  if (head !== magic || ((bytes[15] ?? 0) & 2) === 0) return undefined;
  const [, afterVersion] = readString(bytes, 32);
  const [framed] = readString(bytes, afterVersion);
  const info = Buffer.from(framed.subarray(sentinel, framed.length - sentinel)).toString("utf8");
  const path = /^path\t(.*)$/m.exec(info)?.[1];
  const version = /^mod\t[^\t\n]*\t([^\t\n]*)/m.exec(info)?.[1] ?? "";
  return path === undefined ? undefined : { path, version };
}

/** A length as a varint, then that many bytes. */
function readString(bytes: Uint8Array, at: number): [Uint8Array, number] {
  let length = 0;
  let shift = 0;
  let offset = at;
  for (;;) {
    const byte = bytes[offset++];
    if (byte === undefined || shift > 28) throw new RangeError("malformed build information");
    length |= (byte & 0x7f) << shift;
    if ((byte & 0x80) === 0) break;
    shift += 7;
  }
  if (offset + length > bytes.length) throw new RangeError("malformed build information");
  return [bytes.subarray(offset, offset + length), offset + length];
}
