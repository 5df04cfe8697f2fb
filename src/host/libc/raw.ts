/**
 * The one name to load by: glibc and musl both answer to it, and a name that misses would make Bun look in
 * the working folder, where anybody may have put one.
 */
export const libraryName = "libc.so.6";

/** C functions as they are: -1 means that `errno` says why. Pointers are passed as the arrays themselves. */
export interface RawLibc {
  errno(): number;
  fcntlValue(fd: number, command: number, value: number): number;
  fcntlPointer(fd: number, command: number, data: Uint8Array): number;
  flock(fd: number, operation: number): number;
  /** renameat2(2) and linkat(2), by number: their arguments are alike. */
  syscallPaths(
    number: number,
    fromFolder: number,
    from: Uint8Array,
    toFolder: number,
    to: Uint8Array,
    flags: number,
  ): number;
  ioctl(fd: number, request: number, data: Uint8Array): number;
  flistxattr(fd: number, names: Uint8Array, size: number): number;
  fgetxattr(fd: number, name: Uint8Array, value: Uint8Array, size: number): number;
  fsetxattr(fd: number, name: Uint8Array, value: Uint8Array, size: number, flags: number): number;
  fremovexattr(fd: number, name: Uint8Array): number;
}
