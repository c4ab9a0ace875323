import importlib
import pkgutil

from pydantic import BaseModel

import schemas


def test_no_model_changes_once_made_or_takes_unknown_keys():
    modules = [importlib.import_module(f"schemas.{one.name}") for one in pkgutil.iter_modules(schemas.__path__)]
    named = [(module.__name__, one) for module in modules for one in vars(module).values() if isinstance(one, type)]
    models = [one for name, one in named if issubclass(one, BaseModel) and one.__module__ == name]
    assert len(models) > 80
    rules = {one.__name__: (one.model_config.get("frozen"), one.model_config.get("extra")) for one in models}
    assert {name for name, rule in rules.items() if rule != (True, "forbid")} == set()
