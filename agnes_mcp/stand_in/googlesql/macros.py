"""Macros of the store: what GoogleSQL computes and DuckDB has no word for. Those that raise have a `safe_` twin."""

from __future__ import annotations

import re
from functools import cache
from graphlib import TopologicalSorter

_TEXT = r"""
bq_null(a) AS NULL
bq_isnan(a DOUBLE) AS isnan(a), (a) AS FALSE
bq_big(a) AS CASE WHEN a IS NULL THEN NULL WHEN regexp_matches(a, '\.\d{18}\d*[1-9]') THEN error('The stand-in
    counts BIGNUMERIC with 18 decimal places: ' || a) ELSE CAST(a AS DECIMAL(38, 18)) END
bq_trimmed(a) AS CASE WHEN contains(a, '.') THEN rtrim(rtrim(a, '0'), '.') ELSE a END
bq_big_text(a) AS bq_trimmed(CAST(CAST(a AS DECIMAL(38, 18)) AS VARCHAR))
bq_numeric_text(a) AS bq_trimmed(CAST(a AS VARCHAR))
bq_float_text(a) AS CASE WHEN isnan(a) THEN 'nan' WHEN isinf(a) THEN CASE WHEN a > 0 THEN 'inf' ELSE '-inf' END
    WHEN a = trunc(a) AND abs(a) < 1e15 THEN CASE WHEN a = 0 AND CAST(a AS VARCHAR) LIKE '-%' THEN '-0' ELSE
    CAST(CAST(a AS BIGINT) AS VARCHAR) END ELSE regexp_replace(CAST(a AS VARCHAR), '\.0(e|$)', '\1') END
bq_fraction(a) AS CASE WHEN a % 1000000 = 0 THEN '' WHEN a % 1000 = 0 THEN '.' || lpad(CAST((a % 1000000) //
    1000 AS VARCHAR), 3, '0') ELSE '.' || lpad(CAST(a % 1000000 AS VARCHAR), 6, '0') END
bq_datetime_text(a) AS strftime(a, '%Y-%m-%d %H:%M:%S') || bq_fraction(CAST(extract('microsecond' FROM a) AS
    BIGINT))
bq_time_text(a) AS strftime(DATE '2000-01-01' + a, '%H:%M:%S') || bq_fraction(CAST(extract('microsecond' FROM a)
    AS BIGINT))
bq_offset(a) AS CASE WHEN a < 0 THEN '-' ELSE '+' END || lpad(CAST(abs(a) // 60 AS VARCHAR), 2, '0') || CASE
    WHEN abs(a) % 60 = 0 THEN '' ELSE ':' || lpad(CAST(abs(a) % 60 AS VARCHAR), 2, '0') END
bq_zone_minutes(a, z) AS CAST(date_diff('minute', CAST(a AS TIMESTAMP), bq_local(a, z)) AS BIGINT)
bq_timestamp_text(a, z) AS bq_datetime_text(bq_local(a, z)) || bq_offset(bq_zone_minutes(a, z))
bq_fixed_zone(z) AS regexp_full_match(z, '(UTC)?[+-]\d{1,2}(:\d{2})?')
bq_zone(z) AS CASE WHEN regexp_full_match(z, '[A-Z]{3}') AND z NOT IN ('CET', 'EET', 'EST', 'GMT', 'HST', 'MET',
    'MST', 'PRC', 'ROC', 'ROK', 'UCT', 'UTC', 'WET') THEN error('Invalid time zone: ' || z) ELSE z END
bq_zone_offset(z) AS to_minutes(CAST((CASE WHEN contains(z, '-') THEN -1 ELSE 1 END) * (CAST(regexp_extract(z,
    '[+-](\d{1,2})', 1) AS BIGINT) * 60 + coalesce(TRY_CAST(nullif(regexp_extract(z, ':(\d{2})', 1), '') AS
    BIGINT), 0)) AS BIGINT))
bq_local(a, z) AS CASE WHEN bq_fixed_zone(z) THEN CAST(a AS TIMESTAMP) + bq_zone_offset(z) ELSE timezone(CASE
    WHEN bq_fixed_zone(z) THEN 'UTC' ELSE bq_zone(z) END, CAST(a AS TIMESTAMPTZ)) END
bq_utc(a, z) AS CASE WHEN bq_fixed_zone(z) THEN CAST(a - bq_zone_offset(z) AS TIMESTAMPTZ) ELSE timezone(CASE
    WHEN bq_fixed_zone(z) THEN 'UTC' ELSE bq_zone(z) END, CAST(a AS TIMESTAMP)) END
bq_int(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(a,
    '\s*[+-]?(\d+|0[xX][0-9a-fA-F]+)\s*') THEN TRY_CAST(trim(a) AS BIGINT) END, error('Bad int64 value: ' || a)) END
bq_double(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(lower(trim(a)),
    '[+-]?(\d+(\.\d*)?([e][+-]?\d+)?|\.\d+([e][+-]?\d+)?|inf|infinity|nan)') THEN TRY_CAST(trim(a) AS DOUBLE)
    END, error('Bad double value: ' || a)) END
bq_exact(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(lower(trim(a)),
    '[+-]?(\d+(\.\d*)?|\.\d+)([e][+-]?\d+)?') THEN TRY_CAST(trim(a) AS DECIMAL(38, 9)) END, error('Invalid
    NUMERIC value: ' || a)) END
bq_bool(a) AS CASE WHEN a IS NULL THEN NULL WHEN lower(a) = 'true' THEN TRUE WHEN lower(a) = 'false' THEN FALSE
    ELSE error('Bad bool value: ' || a) END
bq_date(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(a,
    '\d{4}-\d{1,2}-\d{1,2}([ Tt]\d{1,2}:\d{1,2}:\d{1,2}(\.\d{1,6})?)?') THEN TRY_CAST(TRY_CAST(a AS TIMESTAMP)
    AS DATE) END, error('Invalid date: ''' || a || '''')) END
bq_time(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(a,
    '\d{1,2}:\d{1,2}:\d{1,2}(\.\d{1,6})?') THEN TRY_CAST(a AS TIME) END, error('Invalid time string "' || a ||
    '"')) END
bq_datetime(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(a,
    '\d{4}-\d{1,2}-\d{1,2}([ Tt]\d{1,2}:\d{1,2}:\d{1,2}(\.\d{1,6})?)?') THEN TRY_CAST(upper(a) AS TIMESTAMP)
    END, error('Invalid datetime string "' || a || '"')) END
bq_stamp_day(a) AS regexp_extract(a, '^(\d{4}-\d{1,2}-\d{1,2}([ Tt]\d{1,2}:\d{1,2}:\d{1,2}(\.\d{1,6})?)?)', 1)
bq_stamp_zone(a) AS trim(a[length(bq_stamp_day(a)) + 1:])
bq_zone_name(a) AS CASE WHEN upper(a) = 'Z' THEN 'UTC' ELSE a END
bq_timestamp(a, z) AS CASE WHEN a IS NULL OR z IS NULL THEN NULL ELSE coalesce(CASE WHEN regexp_full_match(a,
    '\d{4}-\d{1,2}-\d{1,2}([ Tt]\d{1,2}:\d{1,2}:\d{1,2}(\.\d{1,6})?)?(Z|z|[+-]\d{1,2}(:\d{2})?|
    [A-Za-z][\w+-]*(/[\w+-]+)*| ?[+-]\d{1,2}(:\d{2})?)?') AND TRY_CAST(upper(bq_stamp_day(a)) AS TIMESTAMP) IS
    NOT NULL THEN bq_utc(TRY_CAST(upper(bq_stamp_day(a)) AS TIMESTAMP),
    coalesce(nullif(bq_zone_name(bq_stamp_zone(a)), ''), z)) END, error('Invalid timestamp: ''' || a || ''''))
    END
bq_whole(a) AS CASE WHEN a IS NULL THEN NULL WHEN isnan(a) OR isinf(a) OR abs(a) >= 9223372036854775808 THEN
    error('Illegal conversion of non-finite or too large floating point number to an integer: ' || a) ELSE
    CAST(round(a) AS BIGINT) END
bq_narrow(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(CASE WHEN NOT isnan(a) AND NOT isinf(a) THEN
    TRY_CAST(a AS DECIMAL(38, 9)) END, error('numeric overflow: ' || a)) END
bq_text(a) AS CASE WHEN a IS NULL THEN NULL ELSE coalesce(try(decode(a)), error('Cannot cast bytes to string:
    invalid UTF-8')) END
bq_div(a, b) AS CASE WHEN b = 0 THEN error('division by zero: ' || bq_float_text(a) || ' / ' ||
    bq_float_text(b)) ELSE a / b END
bq_sign_of(a) AS CASE WHEN a < 0 THEN -1 ELSE 1 END
bq_ninth(q) AS CAST(q AS DECIMAL(38, 0)) * CAST(0.000000001 AS DECIMAL(9, 9))
bq_scaled(a) AS CAST(a * CAST(1000000000 AS DECIMAL(10, 0)) AS HUGEINT)
bq_ratio(a, b) AS ((abs(a) * 2000000000 + abs(b)) // (2 * abs(b))) * bq_sign_of(a) * bq_sign_of(b)
bq_numeric_div(a, b) AS CASE WHEN a IS NULL OR b IS NULL THEN NULL WHEN b = 0 THEN error('division by zero: ' ||
    a || ' / ' || b) ELSE bq_ninth(bq_ratio(bq_scaled(a), CASE WHEN b = 0 THEN 1 ELSE bq_scaled(b) END)) END
bq_finite(x, a, b) AS CASE WHEN isinf(x) AND NOT isinf(a) AND NOT isinf(b) THEN error('double overflow') ELSE x END
bq_mod(a, b) AS CASE WHEN b = 0 THEN error('division by zero: MOD(' || a || ', ' || b || ')') ELSE a % b END
bq_quotient(a, b) AS CASE WHEN b = 0 THEN error('division by zero: ' || a || ' / ' || b) ELSE CAST((abs(CAST(a
    AS HUGEINT)) // abs(CAST(b AS HUGEINT))) * bq_sign_of(a) * bq_sign_of(b) AS BIGINT) END
bq_bits(a) AS CAST(CASE WHEN a < 0 THEN CAST(a AS HUGEINT) + 18446744073709551616 ELSE CAST(a AS HUGEINT) END AS
    UHUGEINT)
bq_signed(a) AS CAST(CASE WHEN a >= 9223372036854775808 THEN CAST(a AS HUGEINT) - 18446744073709551616 ELSE
    CAST(a AS HUGEINT) END AS BIGINT)
bq_two_to(n) AS CAST(list_reduce(list_transform(range(1, n + 1), lambda i: CAST(2 AS UHUGEINT)), lambda x, y: x
    * y, CAST(1 AS UHUGEINT)) AS UHUGEINT)
bq_shift_left(a, n) AS CASE WHEN n < 0 THEN error('Bitwise shift by negative offset.') WHEN n > 63 THEN CASE
    WHEN a IS NULL THEN NULL ELSE 0 END ELSE bq_signed((bq_bits(a) * bq_two_to(greatest(least(n, 63), 0))) %
    CAST(18446744073709551616 AS UHUGEINT)) END
bq_shift_right(a, n) AS CASE WHEN n < 0 THEN error('Bitwise shift by negative offset.') WHEN n > 63 THEN CASE
    WHEN a IS NULL THEN NULL ELSE 0 END ELSE bq_signed(bq_bits(a) // bq_two_to(greatest(least(n, 63), 0))) END
bq_element(a, i) AS CASE WHEN i < 0 OR i >= len(a) THEN error('Array index ' || i || ' is out of bounds
    (overflow)') ELSE a[i + 1] END
bq_safe_element(a, i) AS CASE WHEN i < 0 OR i >= len(a) THEN NULL ELSE a[i + 1] END
bq_without_null(a, c) AS CASE WHEN len(list_filter(a, lambda e: e IS NULL)) > 0 THEN error('Array cannot have a
    null element; error in writing field ' || c) ELSE coalesce(a, []) END
bq_pointer(k) AS '$."' || replace(k, '"', '\"') || '"'
bq_json_member(j, k) AS json_extract(j, bq_pointer(k))
bq_json_item(j, i) AS CASE WHEN i < 0 THEN NULL ELSE json_extract(j, '$[' || i || ']') END
bq_json_type(a) AS CASE json_type(a) WHEN 'VARCHAR' THEN 'string' WHEN 'UBIGINT' THEN 'number' WHEN 'BIGINT'
    THEN 'number' WHEN 'DOUBLE' THEN 'number' WHEN 'HUGEINT' THEN 'number' ELSE lower(json_type(a)) END
bq_json_scalar(a) AS CASE WHEN json_type(a) IN ('OBJECT', 'ARRAY', 'NULL') THEN NULL ELSE json_extract_string(a,
    '$') END
bq_json_string(a) AS CASE WHEN a IS NULL THEN NULL WHEN json_type(a) = 'VARCHAR' THEN json_extract_string(a,
    '$') ELSE error('The provided JSON input is not a string') END
bq_json_bool(a) AS CASE WHEN a IS NULL THEN NULL WHEN json_type(a) = 'BOOLEAN' THEN CAST(json_extract_string(a,
    '$') AS BOOLEAN) ELSE error('The provided JSON input is not a boolean') END
bq_json_int(a) AS CASE WHEN a IS NULL THEN NULL WHEN json_type(a) IN ('BIGINT', 'UBIGINT') THEN
    CAST(json_extract_string(a, '$') AS BIGINT) WHEN json_type(a) = 'DOUBLE' AND CAST(json_extract_string(a,
    '$') AS DOUBLE) = trunc(CAST(json_extract_string(a, '$') AS DOUBLE)) THEN CAST(CAST(json_extract_string(a,
    '$') AS DOUBLE) AS BIGINT) ELSE error('The provided JSON input is not an integer') END
bq_json_float(a) AS CASE WHEN a IS NULL THEN NULL WHEN json_type(a) IN ('BIGINT', 'UBIGINT', 'DOUBLE',
    'HUGEINT') THEN CAST(json_extract_string(a, '$') AS DOUBLE) ELSE error('The provided JSON number cannot be
    converted to double') END
bq_lax_bool(a) AS CASE json_type(a) WHEN 'BOOLEAN' THEN CAST(json_extract_string(a, '$') AS BOOLEAN) WHEN
    'VARCHAR' THEN CASE lower(json_extract_string(a, '$')) WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END
    WHEN 'BIGINT' THEN CAST(json_extract_string(a, '$') AS DOUBLE) <> 0 WHEN 'UBIGINT' THEN
    CAST(json_extract_string(a, '$') AS DOUBLE) <> 0 WHEN 'DOUBLE' THEN CAST(json_extract_string(a, '$') AS
    DOUBLE) <> 0 END
bq_lax_int(a) AS CASE json_type(a) WHEN 'BOOLEAN' THEN CAST(CAST(json_extract_string(a, '$') AS BOOLEAN) AS
    BIGINT) WHEN 'BIGINT' THEN CAST(json_extract_string(a, '$') AS BIGINT) WHEN 'UBIGINT' THEN
    TRY_CAST(json_extract_string(a, '$') AS BIGINT) WHEN 'DOUBLE' THEN
    TRY_CAST(round(CAST(json_extract_string(a, '$') AS DOUBLE)) AS BIGINT) WHEN 'VARCHAR' THEN
    coalesce(TRY_CAST(CASE WHEN regexp_full_match(json_extract_string(a, '$'), '[+-]?\d+') THEN
    json_extract_string(a, '$') END AS BIGINT), TRY_CAST(round(TRY_CAST(CASE WHEN
    regexp_full_match(json_extract_string(a, '$'), '[+-]?[\d.]+([eE][+-]?\d+)?') THEN json_extract_string(a,
    '$') END AS DOUBLE)) AS BIGINT)) END
bq_lax_float(a) AS CASE json_type(a) WHEN 'BIGINT' THEN CAST(json_extract_string(a, '$') AS DOUBLE) WHEN
    'UBIGINT' THEN CAST(json_extract_string(a, '$') AS DOUBLE) WHEN 'DOUBLE' THEN CAST(json_extract_string(a,
    '$') AS DOUBLE) WHEN 'VARCHAR' THEN safe_bq_double(json_extract_string(a, '$')) END
bq_lax_string(a) AS CASE WHEN json_type(a) IN ('OBJECT', 'ARRAY', 'NULL') THEN NULL ELSE json_extract_string(a,
    '$') END
bq_json_number(a, exact, shown) AS CASE WHEN a IS NULL THEN CAST('null' AS JSON) WHEN exact THEN CAST(shown AS
    JSON) ELSE to_json(shown) END
bq_json_float_text(a) AS CASE WHEN a IS NULL THEN CAST('null' AS JSON) WHEN isnan(a) THEN to_json('NaN') WHEN
    isinf(a) THEN to_json(CASE WHEN a > 0 THEN 'Infinity' ELSE '-Infinity' END) ELSE CAST(bq_float_text(a) AS
    JSON) END
bq_as_written(document, found, shown) AS CASE WHEN json_type(found) = 'DOUBLE' AND NOT contains(document, shown)
    THEN error('The stand-in does not keep how a JSON number was written') ELSE shown END
bq_parsed_json(a) AS CASE WHEN a IS NULL THEN NULL WHEN json_valid(a) THEN CAST(a AS JSON) ELSE error('Invalid
    input to PARSE_JSON: ' || a) END
bq_substr(a, p) AS CASE WHEN p = 0 THEN a WHEN p < 0 AND -p > length(a) THEN a WHEN p > length(a) THEN '' ELSE
    substr(a, p) END
bq_substr_n(a, p, n) AS CASE WHEN n < 0 THEN error('Third argument in SUBSTR() cannot be negative') ELSE
    left(bq_substr(a, p), n) END
bq_from_hex(a) AS from_hex(CASE WHEN length(a) % 2 = 1 THEN '0' || a ELSE a END)
bq_unhex(a) AS CASE WHEN a IS NULL THEN NULL WHEN regexp_full_match(a, '[0-9a-fA-F]*') THEN bq_from_hex(a) ELSE
    error('Failed to decode invalid hexadecimal string: ' || a) END
bq_pad(a, n, p) AS CASE WHEN n < 0 THEN error('The pad length must not be negative') WHEN p = '' THEN error('The
    pad pattern must not be empty') ELSE n END
bq_split(a, d) AS CASE WHEN a = '' THEN [''] WHEN d = '' THEN list_filter(regexp_split_to_array(a, ''), lambda
    e: e <> '') ELSE string_split(a, d) END
bq_found(a, b, p, n) AS list_filter(list_transform(range(1, length(a) - length(b) + 2), lambda i: CASE WHEN
    substr(a, i, length(b)) = b THEN i ELSE 0 END), lambda i: i >= p AND i > 0)[n]
bq_instr(a, b, p, n) AS CASE WHEN a IS NULL OR b IS NULL OR p IS NULL OR n IS NULL THEN NULL WHEN n < 1 THEN
    error('Occurrence must be positive') WHEN p = 0 THEN error('Position must not be zero') WHEN p > 0 THEN
    coalesce(bq_found(a, b, p, n), 0) ELSE
    coalesce(list_reverse(list_filter(coalesce(list_filter(list_transform(range(1, length(a) - length(b) + 2),
    lambda i: CASE WHEN substr(a, i, length(b)) = b THEN i ELSE 0 END), lambda i: i > 0), []), lambda i: i <=
    length(a) + 1 + p))[n], 0) END
bq_letters(a) AS array_to_string(list_transform(regexp_extract_all(to_hex(a), '..'), lambda h: chr(CAST('0x' || h AS
    INTEGER) + CASE WHEN h < '80' THEN 0 ELSE 256 END)), '')
bq_initcap(a, d) AS array_to_string(list_transform(regexp_extract_all(a, d), lambda p: upper(p[1]) ||
    lower(p[2:])), '')
bq_word(v) AS CAST(v % CAST(18446744073709551616 AS UHUGEINT) AS UHUGEINT)
bq_times(a, b) AS bq_word(CAST(a AS UHUGEINT) * CAST(b AS UHUGEINT))
bq_plus(a, b) AS bq_word(CAST(a AS UHUGEINT) + CAST(b AS UHUGEINT))
bq_turned(v, n) AS CAST(v // bq_two_to(n) + bq_word(v * bq_two_to(64 - n)) AS UHUGEINT)
bq_mixed(v) AS xor(v, v // CAST(140737488355328 AS UHUGEINT))
bq_byte(h, i) AS CAST(CAST('0x' || substr(h, 2 * i + 1, 2) AS UBIGINT) AS UHUGEINT)
bq_little(h, i, n) AS CAST(CAST('0x' || array_to_string(list_reverse(regexp_extract_all(substr(h, 2 * i + 1, 2 *
    n), '..')), '') AS UBIGINT) AS UHUGEINT)
bq_k(n) AS CAST(CASE n WHEN 0 THEN 14097894508562428199 WHEN 1 THEN 13011662864482103923 ELSE
    11160318154034397263 END AS UHUGEINT)
bq_pair(u, v, m) AS list_transform([bq_mixed(bq_times(xor(u, v), m))], lambda a:
    bq_times(bq_mixed(bq_times(xor(v, a), m)), m))[1]
bq_print_3(h, n) AS bq_times(bq_mixed(xor(bq_times(bq_plus(bq_byte(h, 0), bq_byte(h, n // 2) * 256), bq_k(2)),
    bq_times(bq_plus(n, bq_byte(h, n - 1) * 4), bq_k(0)))), bq_k(2))
bq_print_7(h, n, m) AS bq_pair(bq_plus(n, bq_little(h, 0, 4) * 8), bq_little(h, n - 4, 4), m)
bq_print_16(h, n, m) AS list_transform([struct_pack(a := bq_plus(bq_little(h, 0, 8), bq_k(2)), b := bq_little(h,
    n - 8, 8))], lambda p: bq_pair(bq_plus(bq_times(bq_turned(p.b, 37), m), p.a),
    bq_times(bq_plus(bq_turned(p.a, 25), p.b), m), m))[1]
bq_four(h, n, m, k) AS struct_pack(a := bq_times(bq_little(h, 0, 8), k), b := bq_little(h, 8, 8), c :=
    bq_times(bq_little(h, n - 8, 8), m), d := bq_times(bq_little(h, n - 16, 8), bq_k(2)))
bq_first(p) AS bq_plus(bq_plus(bq_turned(bq_plus(p.a, p.b), 43), bq_turned(p.c, 30)), p.d)
bq_second(p) AS bq_plus(bq_plus(p.a, bq_turned(bq_plus(p.b, bq_k(2)), 18)), p.c)
bq_print_32(h, n, m) AS list_transform([bq_four(h, n, m, bq_k(1))], lambda p: bq_pair(bq_first(p), bq_second(p),
    m))[1]
bq_last(h, n, m, p, y, z) AS struct_pack(e := bq_times(bq_little(h, 16, 8), m), f := bq_little(h, 24, 8), g :=
    bq_times(bq_plus(y, bq_little(h, n - 32, 8)), m), h := bq_times(bq_plus(z, bq_little(h, n - 24, 8)), m), a
    := p.a)
bq_ended(q, m) AS bq_pair(bq_plus(bq_plus(bq_turned(bq_plus(q.e, q.f), 43), bq_turned(q.g, 30)), q.h),
    bq_plus(bq_plus(q.e, bq_turned(bq_plus(q.f, q.a), 18)), q.g), m)
bq_print_64(h, n, m) AS list_transform(list_transform([bq_four(h, n, m, bq_k(2))], lambda p: bq_last(h, n, m, p,
    bq_first(p), bq_pair(bq_first(p), bq_second(p), m))), lambda q: bq_ended(q, m))[1]
bq_weaker(h, i, c, d, b) AS struct_pack(a := bq_plus(d, bq_little(h, i + 24, 8)), b := bq_plus(bq_plus(b,
    bq_turned(d, 44)), c))
bq_weak(h, i, a, b) AS list_transform([bq_plus(a, bq_little(h, i, 8))], lambda c: bq_weaker(h, i, c,
    bq_plus(bq_plus(c, bq_little(h, i + 8, 8)), bq_little(h, i + 16, 8)), bq_turned(bq_plus(bq_plus(b, c),
    bq_little(h, i + 24, 8)), 21)))[1]
bq_stirred(s, h, i, m, n) AS struct_pack(x := xor(bq_times(bq_turned(bq_plus(bq_plus(s.x, s.y), bq_plus(s.v.a,
    bq_little(h, i + 8, 8))), 37), m), bq_times(s.w.b, n)), y := bq_plus(bq_plus(bq_times(bq_turned(bq_plus(
    bq_plus(s.y, s.v.b), bq_little(h, i + 48, 8)), 42), m), bq_times(s.v.a, n)), bq_little(h, i + 40, 8)), z :=
    bq_times(bq_turned(bq_plus(s.z, s.w.a), 33), m), v := s.v, w := s.w)
bq_round(s, h, i, m, n) AS list_transform([bq_stirred(s, h, i, m, n)], lambda t: struct_pack(x := t.z, y := t.y, z :=
    t.x, v := bq_weak(h, i, bq_times(t.v.b, m), bq_plus(t.x, t.w.a)), w := bq_weak(h, i + 32, bq_plus(t.z, t.w.b),
    bq_plus(t.y, bq_little(h, i + 16, 8))), place := CAST(0 AS BIGINT)))[1]
bq_state(x, y, z, place) AS struct_pack(x := CAST(x AS UHUGEINT), y := CAST(y AS UHUGEINT), z := CAST(z AS
    UHUGEINT), v := struct_pack(a := CAST(0 AS UHUGEINT), b := CAST(0 AS UHUGEINT)), w := struct_pack(a := CAST(0 AS
    UHUGEINT), b := CAST(0 AS UHUGEINT)), place := CAST(place AS BIGINT))
bq_blocks(h, n) AS list_reduce(list_transform(range(0, (n - 1) // 64), lambda b: bq_state(0, 0, 0, 64 * b)),
    lambda s, b: bq_round(s, h, b.place, bq_k(1), 1), bq_state(bq_plus(95310865018149119, bq_little(h, 0, 8)),
    2480279821605975764, 1390051526045402406, 0))
bq_over(s, n) AS list_transform([bq_plus(s.w.a, (n - 1) % 64)], lambda w: list_transform([bq_plus(s.v.a, w)], lambda v:
    struct_pack(x := s.x, y := s.y, z := s.z, v := struct_pack(a := v, b := s.v.b), w := struct_pack(a := bq_plus(w, v),
    b := s.w.b)))[1])[1]
bq_long(s, m) AS bq_pair(bq_plus(bq_plus(bq_pair(s.v.a, s.w.a, m), bq_times(bq_mixed(s.y), bq_k(0))), s.z),
    bq_plus(bq_pair(s.v.b, s.w.b, m), s.x), m)
bq_print_more(h, n) AS list_transform(list_transform([bq_blocks(h, n)], lambda s: struct_pack(s := bq_over(s, n), m :=
    bq_plus(bq_k(1), 2 * (s.z % 256)))), lambda e: list_transform([bq_round(e.s, h, n - 64, e.m, 9)], lambda t:
    bq_long(t, e.m))[1])[1]
bq_printed(h, n, m) AS CASE WHEN n = 0 THEN bq_k(2) WHEN n < 4 THEN bq_print_3(h, n) WHEN n < 8 THEN
    bq_print_7(h, n, m) WHEN n <= 16 THEN bq_print_16(h, n, m) WHEN n <= 32 THEN bq_print_32(h, n, m) WHEN n <=
    64 THEN bq_print_64(h, n, m) ELSE bq_print_more(h, n) END
bq_fingerprint(a) AS CASE WHEN a IS NULL THEN NULL ELSE bq_signed(bq_printed(to_hex(a), octet_length(a),
    bq_plus(bq_k(2), 2 * octet_length(a)))) END
bq_radians(a) AS a * pi() / 180
bq_meters(x1, y1, x2, y2) AS 6371010.0 * 2 * asin(sqrt(least(1.0, power(sin((bq_radians(y2) - bq_radians(y1)) /
    2), 2) + cos(bq_radians(y1)) * cos(bq_radians(y2)) * power(sin((bq_radians(x2) - bq_radians(x1)) / 2), 2))))
bq_point_x(a) AS CASE WHEN a IS NULL THEN NULL WHEN regexp_full_match(a, 'POINT ?\([^,() ]+ [^,() ]+\)') THEN
    CAST(regexp_extract(a, '\((\S+) ', 1) AS DOUBLE) ELSE error('The stand-in measures points only') END
bq_point_y(a) AS CASE WHEN a IS NULL THEN NULL WHEN regexp_full_match(a, 'POINT ?\([^,() ]+ [^,() ]+\)') THEN
    CAST(regexp_extract(a, '\(\S+ (\S+)\)', 1) AS DOUBLE) ELSE error('The stand-in measures points only') END
bq_distance(a, b) AS bq_meters(bq_point_x(a), bq_point_y(a), bq_point_x(b), bq_point_y(b))
bq_point(x, y) AS CASE WHEN abs(y) > 90 THEN error('ST_GeogPoint failed: Latitude must be between -90 and 90
    degrees') ELSE 'POINT(' || bq_float_text(CAST(x AS DOUBLE)) || ' ' || bq_float_text(CAST(y AS DOUBLE)) ||
    ')' END
"""


def _lines() -> list[str]:
    """One macro each; a line that begins with spaces goes on with the one before."""
    return re.sub(r"\n +", " ", _TEXT).strip().splitlines()


def _named(line: str) -> str:
    return line.partition("(")[0]


def _used(text: str) -> set[str]:
    """The macros that a text calls, but not the one that it defines."""
    return set(re.findall(r"(?<![\w.])((?:safe_)?bq_\w+)\(", text)) - {_named(text)}


def _raising(lines: list[str]) -> frozenset[str]:
    """The macros that raise themselves, or through one that they use."""
    found = {_named(line) for line in lines if "error(" in line}
    while True:
        more = {_named(line) for line in lines if _used(line) & found} - found
        if not more:
            return frozenset(found)
        found |= more


def safe_text(sql: str, raising: frozenset[str]) -> str:
    """`sql` with the twin that answers NULL in the place of each macro that raises."""
    swapped = re.sub(r"(?<![\w.])(bq_\w+)\(", lambda found: _safe_name(found[1], raising), sql)
    return re.sub(r"(?<![\w.])error\(", "bq_null(", swapped)


def _safe_name(name: str, raising: frozenset[str]) -> str:
    return f"safe_{name}(" if name in raising else f"{name}("


@cache
def _by_name() -> dict[str, str]:
    """Each macro by its name, as the text after CREATE MACRO, in an order in which each finds those it uses."""
    lines = _lines()
    twins = [safe_text(line, RAISING) for line in lines if _named(line) in RAISING]
    by_name = {_named(line): line for line in [*lines, *twins]}
    uses = TopologicalSorter({name: _used(line) for name, line in by_name.items()})
    return {name: by_name[name] for name in uses.static_order()}


def called_by(sql: str) -> dict[str, str]:
    """The macros that a text calls, and those that they use: by name, the text after CREATE MACRO, in that order."""
    known, wanted = _by_name(), _used(sql)
    for name in reversed(known):
        wanted |= _used(known[name]) if name in wanted else set()
    return {name: line for name, line in known.items() if name in wanted}


#: The names of the macros that have a twin.
RAISING = _raising(_lines())
