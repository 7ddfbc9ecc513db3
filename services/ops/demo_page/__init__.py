"""`/demo` of `gapless api`: a chat in a browser, live, to try things out. Off unless GAPLESS_DEMO_PAGE says so.

- `demo.html`   the whole page: one file, without a build and without anything from elsewhere
- `routes`      serves it, under a policy that lets a browser run this script and no other
- `settings`    whether it is served
"""
