"""What is sent. Pure.

- `frame`    a frame and its bytes on each kind of stream, made once
- `events`   the frame of each type of event
- `control`  frames about the stream itself
"""
