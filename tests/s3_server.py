"""An S3 server as a process of its own: ``python s3_server.py`` prints its port and serves until it is killed.

One request at a time, so that a conditional put is as atomic as it is on S3.
"""

import logging

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
print(server.server_port, flush=True)
server.serve_forever()
