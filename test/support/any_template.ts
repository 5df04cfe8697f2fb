/** A small generator of its own, so that a failure can be repeated by its seed. */
export function random(seed: number): (below: number) => number {
  let state = (seed * 2654435761) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const pieces = [
  '{{ template "base" . }}',
  "{{/* a comment */}}",
  "{{- if .IsRunningInUserNS }}",
  "{{ if .Program -}}",
  "{{ else }}",
  "{{ end }}",
  "{{ end -}}",
  "{{- range $k, $v := .ExtraRuntimes -}}",
  '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes."{{$k}}"]',
  'sandbox_image = "{{ .Program }}"',
  'x = "{{ printf "%q" "}}" }}"',
  "x = '''",
  "'''",
  'y = """ \\',
  '"""',
  "{{/*",
  "*/}}",
  "{{ `",
  "` }}",
  "# it's a comment {{ .Program }}",
  "# BEGIN shimctl default format=1 sha256=0123456789abcdef",
  "# END shimctl default",
  "  # BEGIN shimctl other format=1 sha256=0123456789abcdef",
  "# BEGIN shimctl",
  "#:0",
  "#:12",
  "#::3",
  "[a",
  "}} {{",
  "\u0007\ufeffé\ud83d\ude00",
  "  ",
  "",
  "",
  "key = 1",
] as const;

/** Lines that templates have, and that only look as if, in any order. */
export function anyTemplate(next: (below: number) => number): string {
  const eols = next(3);
  let text = "";
  for (let line = next(14); line > 0; line--) {
    const eol = eols === 0 ? "\n" : eols === 1 ? "\r\n" : ["\n", "\r\n", "\r"][next(3)];
    text += `${pieces[next(pieces.length)]}${next(6) === 0 ? pieces[next(pieces.length)] : ""}${eol}`;
  }
  return next(2) === 0 ? text : text + (pieces[next(pieces.length)] ?? "");
}
