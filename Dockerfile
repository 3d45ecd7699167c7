# syntax=docker/dockerfile:1
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY buffer buffer
COPY cmd cmd
COPY config config
COPY connector connector
COPY sinks sinks
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /weir ./cmd/weir

# One static file and the authorities it trusts; no shell, no package manager.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /weir /weir
USER 65532:65532
ENTRYPOINT ["/weir"]
CMD ["run", "-c", "/etc/weir/weir.yaml"]
