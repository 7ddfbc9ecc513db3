# Caddy that needs no capability. The image's own program is marked as one that opens ports below 1024, and a program so
# marked does not start at all where it can have no capability. We listen on 8080; a copy of it has no mark.
FROM caddy:2.11.4-alpine
RUN cp /usr/bin/caddy /usr/bin/unmarked && mv /usr/bin/unmarked /usr/bin/caddy
USER 10001:10001
