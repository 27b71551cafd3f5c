"""Secrets Manager: secrets, given or generated once and then kept."""

from __future__ import annotations

import json
import secrets as randomness
import string
from collections.abc import Mapping
from typing import Any

from shoal.local.deploy.registry import Context, Created, Property, ResourceType, flag, number, tag_map
from shoal.local.intrinsics import BadTemplate
from shoal.local.template import Resource

_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_CLASSES = (
    ("ExcludeLowercase", string.ascii_lowercase),
    ("ExcludeUppercase", string.ascii_uppercase),
    ("ExcludeNumbers", string.digits),
    ("ExcludePunctuation", _PUNCTUATION),
)
_GENERATE = "GenerateSecretString"


def _create_secret(context: Context, resource: Resource) -> Created:
    properties, client = resource.properties, context.client("secretsmanager")
    name = context.name(resource, "Name", 512)
    value = context.secrets.get(name)
    if "SecretString" in properties:
        value = str(properties["SecretString"])
    elif value is None:
        value = generate(properties.get(_GENERATE, {}), resource)
    tags = [{"Key": key, "Value": item} for key, item in tag_map(properties.get("Tags")).items()]
    description = str(properties.get("Description", ""))
    try:
        arn = client.create_secret(Name=name, SecretString=value, Description=description, Tags=tags)["ARN"]
    except client.exceptions.ResourceExistsException:
        arn = client.put_secret_value(SecretId=name, SecretString=value)["ARN"]
    context.deployment.secrets[name] = value
    context.deployment.secret_arns[name] = arn
    return Created(arn, {"Id": arn})


def generate(settings: Mapping[str, Any], resource: Resource) -> str:
    """A secret as `GenerateSecretString` describes it, from the operating system's randomness.

    Reference: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetRandomPassword.html
    """
    part = Resource(resource.logical_id, resource.type, settings)
    length = number(part, "PasswordLength", 32) or 32
    excluded = str(settings.get("ExcludeCharacters", ""))
    classes = [letters for name, letters in _CLASSES if not flag(settings.get(name, False))]
    if flag(settings.get("IncludeSpace", False)):
        classes.append(" ")
    classes = [kept for kept in ("".join(c for c in letters if c not in excluded) for letters in classes) if kept]
    each = flag(settings.get("RequireEachIncludedType", True))
    if not classes or (each and length < len(classes)):
        raise BadTemplate(
            f"{resource.logical_id} ({resource.type}): property {_GENERATE} leaves no password of {length} characters.",
            "Exclude less, or make it longer.",
        )
    letters = [randomness.choice(kept) for kept in classes] if each else []
    letters += [randomness.choice("".join(classes)) for _ in range(length - len(letters))]
    randomness.SystemRandom().shuffle(letters)
    password = "".join(letters)
    if "SecretStringTemplate" not in settings:
        return password
    return json.dumps({**json.loads(settings["SecretStringTemplate"]), settings["GenerateStringKey"]: password})


SECRET = ResourceType(
    "AWS::SecretsManager::Secret",
    {
        "Name": Property("name of the secret; by default the stack's name and the logical id"),
        "Description": Property("create_secret"),
        "SecretString": Property("create_secret"),
        **{
            f"{_GENERATE}.{name}": Property("a value is generated once and kept with the cloud's state")
            for name in (
                "PasswordLength",
                "ExcludeCharacters",
                "IncludeSpace",
                "RequireEachIncludedType",
                "SecretStringTemplate",
                "GenerateStringKey",
                *(name for name, _ in _CLASSES),
            )
        },
        "Tags": Property("create_secret"),
    },
    _create_secret,
)

TYPES = (SECRET,)
