# The image of `npm run image`, for builders that make their own layers. Needs what `npm run build` leaves in dist/:
#   docker buildx build --platform linux/amd64,linux/arm64 .        buildah build --platform linux/arm64 .
FROM scratch
ARG TARGETARCH
COPY dist/root/${TARGETARCH}/ /
ENV PATH=/opt/shimctl
WORKDIR /
ENTRYPOINT ["/opt/shimctl/shimctl"]
LABEL org.opencontainers.image.title="shimctl" \
      org.opencontainers.image.description="Installs, changes and removes container runtime handlers in containerd and CRI-O, safely" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT AND LGPL-2.1-or-later"
