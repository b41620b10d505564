"""Signed profiles: only what the owner of the key has signed is loaded, and only while it is valid."""

from __future__ import annotations

import json
import os
import random
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from routing_examples import profile_content, sealed_profile
from soma_bench.cli.profile import profile as profile_command
from soma_bench.errors import ConfigError
from soma_bench.routing.export import export_profile
from soma_bench.routing.profile import (
    Profile,
    load_profile,
    profile_text,
    save_profile,
    signed_bytes,
)
from soma_bench.routing.signing import (
    PublicKey,
    make_keys,
    read_private_key,
    read_public_key,
    sign_profile,
)

MUTATIONS = int(os.environ.get("SOMA_BENCH_FUZZ", "1500"))
SOON = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder / "signing.key", folder / "signing.pub")
    return folder / "signing.key", folder / "signing.pub"


@pytest.fixture(scope="module")
def public(keys) -> PublicKey:
    return read_public_key(keys[1])


@pytest.fixture
def signed(keys, tmp_path) -> Path:
    path = tmp_path / "signed.json"
    save_profile(sign_profile(sealed_profile(), read_private_key(keys[0]), SOON), path)
    return path


def test_a_signed_profile_is_loaded_by_whoever_has_the_public_key(signed, public):
    loaded = load_profile(signed, public)
    plain = loaded.model_copy(update={"signature": None, "valid_until": None})
    assert plain.sealed() == sealed_profile()


def test_a_hand_written_profile_can_be_signed_too(keys, public, tmp_path):
    path = tmp_path / "p.json"
    written = Profile.model_validate(profile_content())
    save_profile(sign_profile(written, read_private_key(keys[0]), SOON), path)
    assert load_profile(path, public).routing == written.routing


def test_an_exported_signed_profile_keeps_its_signature(signed, public, tmp_path):
    out = tmp_path / "out.json"
    out.write_text(export_profile(load_profile(signed), "json"))
    assert load_profile(out, public) == load_profile(signed)


def test_an_unsigned_profile_has_no_word_of_signatures_in_it():
    text = profile_text(sealed_profile())
    assert "signature" not in text
    assert "valid_until" not in text


def test_unsigned_is_refused_where_a_signature_is_asked_for(tmp_path, public):
    path = tmp_path / "p.json"
    save_profile(sealed_profile(), path)
    assert load_profile(path) == sealed_profile()
    with pytest.raises(ConfigError, match="signature: is missing"):
        load_profile(path, public)


def test_another_owners_signature_is_refused(signed, tmp_path):
    other = make_keys(tmp_path / "o.key", tmp_path / "o.pub")
    with pytest.raises(ConfigError, match="signed with another key"):
        load_profile(signed, other)


def test_a_signature_claimed_for_another_key_is_refused(signed, tmp_path):
    """The attacker signs by nothing and writes the name of the right key."""
    other = make_keys(tmp_path / "o.key", tmp_path / "o.pub")
    content = json.loads(signed.read_text())
    content["signature"]["key"] = other.id
    signed.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="does not match"):
        load_profile(signed, other)


def test_an_altered_profile_is_refused_even_with_its_digest_made_anew(signed, public):
    """What a digest alone cannot find out: the change is consistent."""
    loaded = load_profile(signed)
    route = loaded.routing["qc_reviewer"].model_copy(update={"primary": "claude:claude-sonnet-5-5"})
    changed = loaded.model_copy(update={"routing": {**loaded.routing, "qc_reviewer": route}})
    signed.write_text(profile_text(changed.sealed()))
    load_profile(signed)
    with pytest.raises(ConfigError, match="changed after it was signed"):
        load_profile(signed, public)


def test_an_expiry_cannot_be_moved_and_is_held_to_the_second(signed, public):
    until = datetime.fromisoformat(load_profile(signed).valid_until)
    load_profile(signed, public, now=until - timedelta(seconds=1))
    for now in (until, until + timedelta(days=400)):
        with pytest.raises(ConfigError, match="expired"):
            load_profile(signed, public, now=now)
    later = load_profile(signed).model_copy(
        update={"valid_until": (until + timedelta(days=999)).isoformat()}
    )
    signed.write_text(profile_text(later.sealed()))
    with pytest.raises(ConfigError, match="changed after it was signed"):
        load_profile(signed, public)


@pytest.mark.parametrize("moment", ["2027-01-01", "2027-01-01T00:00:00", "soon", ""])
def test_an_expiry_without_a_zone_is_refused(moment):
    with pytest.raises(ValueError, match="valid_until"):
        Profile.model_validate(profile_content(valid_until=moment))


def test_nothing_is_signed_for_the_past(keys):
    with pytest.raises(ConfigError, match="no time to come"):
        sign_profile(sealed_profile(), read_private_key(keys[0]), datetime(2026, 1, 1, tzinfo=UTC))


def test_the_private_key_is_its_owners_alone_and_never_shown(keys, tmp_path):
    private, _ = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    body = private.read_text().splitlines()[1]
    assert body not in repr(read_private_key(private))
    loose = tmp_path / "loose.key"
    loose.write_bytes(private.read_bytes())
    loose.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        read_private_key(loose)
    assert body not in str(refused.value)


def test_a_key_is_never_overwritten(keys, tmp_path):
    private, public = keys
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(ConfigError, match="is there already"):
        make_keys(private, tmp_path / "new.pub")
    with pytest.raises(ConfigError, match="is there already"):
        make_keys(tmp_path / "new.key", public)
    assert (private.read_bytes(), public.read_bytes()) == before
    assert not (tmp_path / "new.key").exists()


@pytest.mark.parametrize(
    "text", ["", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n", "x" * 20_000]
)
def test_what_is_no_key_is_refused_without_showing_it(tmp_path, text):
    path = tmp_path / "k"
    path.write_text(text)
    path.chmod(0o600)
    for read in (read_private_key, read_public_key):
        with pytest.raises(ConfigError, match="key"):
            read(path)


def test_public_and_private_key_cannot_be_mixed_up(keys):
    private, public = keys
    with pytest.raises(ConfigError, match="public key"):
        read_public_key(private)
    public.chmod(0o600)
    with pytest.raises(ConfigError, match="private key"):
        read_private_key(public)


def mutated(text: bytes, random_: random.Random) -> bytes:
    """One to three random edits of bytes: flipped, cut, doubled, swapped, put in, truncated."""
    data = bytearray(text)
    for _ in range(random_.randint(1, 3)):
        place = random_.randrange(len(data) + 1)
        length = random_.choice([1, 1, 1, 2, 5, 40, 400])
        part = bytes(data[place : place + length])
        kind = random_.randrange(8)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << random_.randrange(8)
        elif kind == 1:
            del data[place : place + length]
        elif kind == 2:
            data[place:place] = part
        elif kind == 3:
            data[place:place] = random_.randbytes(length)
        elif kind == 4:
            del data[place:]
        elif kind == 5:
            data[place : place + 1] = random_.choice(
                [
                    b"null",
                    b"true",
                    b"-0.0",
                    b"1e999",
                    b"NaN",
                    b"{",
                    b"[" * 2000,
                    b'"',
                    b"\\ud800",
                    b"\\u0000",
                    b"9" * 5000,
                    b"\xef\xbb\xbf",
                    b"\r\n",
                    b" ",
                    b"1E2",
                ]
            )
        elif kind == 6 and part.strip().isdigit():
            data[place : place + length] = str(random_.randrange(10**9)).encode()
        else:
            other = random_.randrange(len(data) + 1)
            data[other : other + length] = part
        if not data:
            data = bytearray(b" ")
    return bytes(data)


def changed_value(content: object, random_: random.Random) -> object:
    """The same JSON with one value, somewhere, replaced by another."""
    if isinstance(content, dict) and content and random_.random() < 0.95:
        key = random_.choice(sorted(content))
        if random_.random() < 0.06:
            rest = {name: value for name, value in content.items() if name != key}
            return {**rest, random_.choice([key + "x", "signature", "a"]): content[key]}
        return {**content, key: changed_value(content[key], random_)}
    if isinstance(content, list) and content and random_.random() < 0.95:
        place = random_.randrange(len(content))
        return [*content[:place], changed_value(content[place], random_), *content[place + 1 :]]
    if isinstance(content, float | int) and random_.random() < 0.5:
        return content + random_.choice([1, -1, 0.001, 10**20])
    if isinstance(content, str) and content and random_.random() < 0.5:
        return content[:-1] + random_.choice(["0", "a", "\u2028", "\ud800", "é", ""])
    return random_.choice([None, True, False, 0, -1, 1.5, "", "x", [], {}, "open", "local_only"])


def test_no_mutation_ends_in_a_traceback_or_a_wrong_load(signed, public):
    original, text = load_profile(signed, public), signed.read_bytes()
    content = json.loads(text)
    random_ = random.Random(20261125)
    loaded = 0
    for number in range(MUTATIONS):
        if number % 2:
            data = mutated(text, random_)
        else:
            data = json.dumps(changed_value(content, random_)).encode()
        signed.write_bytes(data)
        try:
            found = load_profile(signed, public)
        except ConfigError:
            continue
        loaded += 1
        assert found == original
        assert signed_bytes(found) == signed_bytes(original)
    assert 0 < loaded < MUTATIONS / 10, "spaces and the like are no change; most mutations are"


def test_half_of_a_surrogate_pair_is_no_text(tmp_path):
    """In a field that is any text, where no pattern stands guard over it."""
    path = tmp_path / "p.json"
    content = json.loads(profile_text(sealed_profile()))
    content["evidence"][0]["metric"] = "a\ud800"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="half of a character"):
        load_profile(path)


def test_the_commands_make_keys_sign_and_verify(tmp_path):
    run = CliRunner().invoke
    path, key = tmp_path / "p.json", tmp_path / "my.key"
    save_profile(sealed_profile(), path)
    assert run(profile_command, ["keygen", str(key)]).exit_code == 0
    verify = ["verify", str(path), "--key", str(tmp_path / "my.key.pub")]
    refused = run(profile_command, verify)
    assert refused.exit_code == 1
    assert "signature: is missing" in refused.stdout
    assert run(profile_command, ["sign", str(path), "--key", str(key)]).exit_code == 0
    assert run(profile_command, verify).exit_code == 0
    path.write_text(path.read_text().replace('"n": 12', '"n": 13', 1))
    assert run(profile_command, verify).exit_code == 1
