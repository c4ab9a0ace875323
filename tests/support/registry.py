"""Stand-in for a schema registry: speaks the part of its REST interface that clients read schemas by."""

import base64
import json
from contextlib import contextmanager

from tests.support.http import Handler, serving


@contextmanager
def registry(schemas, user=None, password=None, status=None):
    """Serve schemas by their numbers; give the URL, and what was asked for.

    ``schemas`` may be changed meanwhile. With ``status`` nothing is answered but that.
    """
    asked = []

    class Registry(Handler):
        def get(self):
            asked.append(self.path)
            if status is not None:
                return self._answer(status, {"error_code": 50001, "message": "Error in the backend data store"})
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            if user is not None and self.headers.get("Authorization") != f"Basic {pair}":
                return self._answer(401, {"error_code": 401, "message": "Unauthorized"})
            number = self.path.removeprefix("/schemas/ids/")
            if not number.isdigit() or int(number) not in schemas:
                return self._answer(404, {"error_code": 40403, "message": "Schema not found"})
            found = schemas[int(number)]
            return self._answer(200, found if "schema" in found else {"schema": json.dumps(found)})

        def _answer(self, code, value):
            self.answer(code, json.dumps(value).encode(), Content_Type="application/vnd.schemaregistry.v1+json")

    with serving(Registry) as url:
        yield url, asked
