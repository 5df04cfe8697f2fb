import { sha256 } from "../sha256.ts";

/** The format of blocks and marked lines that this program writes; older ones it reads, newer ones it refuses. */
export const markerFormat = 1;

/** The hash that tells whether what a marker covers is as it was written. */
export function markerHash(content: string): string {
  return sha256(content).slice(0, 16);
}

/** Owner names that can stand in a marker. */
export const ownerPattern = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;

export interface Marker {
  readonly kind: "begin" | "end";
  readonly owner: string;
  /** Of a BEGIN marker. */
  readonly format?: bigint;
  /** First 16 hexadecimal digits of the SHA-256 of the body, of a BEGIN marker. */
  readonly hash?: string;
}

/** The marker in a comment; `"damaged"` when it was one and cannot be trusted; undefined when it is none. */
export function readMarker(comment: string): Marker | "damaged" | undefined {
  if (!/^#[ \t]*(?:BEGIN|END)[ \t]+shimctl(?:[ \t]|$)/.test(comment)) return undefined;
  const end = /^# END shimctl (\S+)$/.exec(comment);
  if (end !== null) return named({ kind: "end", owner: end[1] ?? "" });
  const begin = /^# BEGIN shimctl (\S+) format=(\d{1,9})(?: (.*))?$/.exec(comment);
  if (begin === null) return "damaged";
  const owner = begin[1] ?? "";
  const format = BigInt(begin[2] ?? "0");
  // What follows the number is the newer format's own business.
  if (format > BigInt(markerFormat)) return named({ kind: "begin", owner, format });
  const hash = /^sha256=([0-9a-f]{16})$/.exec(begin[3] ?? "")?.[1];
  return hash === undefined || format < 1n ? "damaged" : named({ kind: "begin", owner, format, hash });
}

/** The mark of a root line that belongs to no owner. */
export interface SharedMark {
  /** What the line is for. */
  readonly mark: string;
  /** First 16 hexadecimal digits of the SHA-256 of its value: tells whether someone changed it. */
  readonly hash: string;
}

/** The comment that `readShared` reads. */
export function sharedComment({ mark, hash }: SharedMark): string {
  return `# shimctl shared: ${mark} sha256=${hash}`;
}

/** The mark in a comment at the end of a line; undefined also when someone wrote more into it. */
export function readShared(comment: string): SharedMark | undefined {
  const [, mark, hash] = /^# shimctl shared: (\w[^#]*) sha256=([0-9a-f]{16})$/.exec(comment) ?? [];
  // It has no number in format 1. A newer one is not ours to touch: that line is as good as anybody's.
  if (mark === undefined || hash === undefined || / format=/.test(mark)) return undefined;
  return { mark, hash };
}

/** Whether a comment is one that we write. */
export function isOurComment(comment: string): boolean {
  return readShared(comment) !== undefined || typeof readMarker(comment) === "object";
}

function named(marker: Marker): Marker | "damaged" {
  return ownerPattern.test(marker.owner) ? marker : "damaged";
}
