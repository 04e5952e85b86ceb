"""The functions that SQL of others, an agent's or a stored view's, may call: a reviewed positive list.

Taken from `duckdb_functions()` of DuckDB 1.5.6 and read name by name. Left out are those that read or change the
state of the engine (settings, variables, sequences, the text of other queries), that wait (`sleep_ms`), that are not
repeatable (`random`, `uuid`), that run SQL or plans given as text, that pick a function by a name given as text
(`list_aggregate`), that make much out of little (`repeat`, `lpad`, `format`, `levenshtein`, `range` as a list), and
what serves only the engine itself. A new release of DuckDB adds nothing here by itself.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    """The names, in lower case: the parser keeps the case in which one was written, the gate folds it."""
    return frozenset(text.lower().split())


OPERATORS = _names("!__postfix !~~ !~~* % & && * ** + - -> ->> / // <-> << <=> <@ >> @ @> ^ ^@ | || ~ ~~ ~~* ~~~")

FUNCTIONS = _names(
    """
abs acos acosh add age ago any_value apply approx_count_distinct approx_quantile approx_top_k arbitrary arg_max
arg_max_null arg_max_nulls_last arg_min arg_min_null arg_min_nulls_last argmax argmin array_agg array_append
array_apply array_cat array_concat array_contains array_cosine_distance array_cosine_similarity array_cross_product
array_distance array_distinct array_dot_product array_extract array_filter array_grade_up array_has array_has_all
array_has_any array_indexof array_inner_product array_intersect array_length array_negative_dot_product
array_negative_inner_product array_pop_back array_pop_front array_position array_prepend array_push_back
array_push_front array_reduce array_reverse array_reverse_sort array_select array_slice array_sort array_to_string
array_transform array_unique array_value array_where array_zip ascii asin asinh atan atan2 atanh avg base64 bin
bit_and bit_count bit_length bit_or bit_position bit_xor bool_and bool_or cardinality cbrt ceil ceiling century
char_length character_length chr concat concat_ws contains corr cos cosh cot count count_if count_star countif
covar_pop covar_samp cume_dist current_date current_localtime current_localtimestamp date_add date_diff date_part
date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear days_in_month
decade decode degrees dense_rank divide element_at encode ends_with entropy enum_code enum_first enum_last
enum_range enum_range_boundary epoch epoch_ms epoch_ns epoch_us era even exp factorial favg fdiv fill filter first
first_value flatten floor fmod formatReadableDecimalSize formatReadableSize format_bytes from_base64 from_binary
from_hex from_json fsum gamma gcd generate_subscripts geomean geometric_mean get_bit get_current_time
get_current_timestamp grade_up greatest greatest_common_divisor group_concat hamming hash hex histogram
histogram_exact hour ilike_escape instr isfinite isinf isnan isodow isoyear jaccard jaro_similarity
jaro_winkler_similarity json json_array json_array_length json_contains json_exists json_extract json_extract_path
json_extract_path_text json_extract_string json_group_array json_group_object json_keys json_merge_patch json_object
json_pretty json_transform json_transform_strict json_type json_valid json_value julian kahan_sum kurtosis
kurtosis_pop lag last last_day last_value lcase lcm lead least least_common_multiple left left_grapheme len length
length_grapheme lgamma like_escape list list_any_value list_append list_apply list_approx_count_distinct list_avg
list_bit_and list_bit_or list_bit_xor list_bool_and list_bool_or list_cat list_concat list_contains
list_cosine_distance list_cosine_similarity list_count list_distance list_distinct list_dot_product list_element
list_entropy list_extract list_filter list_first list_grade_up list_has list_has_all list_has_any list_histogram
list_indexof list_inner_product list_intersect list_kurtosis list_kurtosis_pop list_last list_mad list_max
list_median list_min list_mode list_negative_dot_product list_negative_inner_product list_pack list_position
list_prepend list_product list_reduce list_reverse list_reverse_sort list_select list_sem list_skewness list_slice
list_sort list_stddev_pop list_stddev_samp list_string_agg list_sum list_transform list_unique list_value
list_var_pop list_var_samp list_where list_zip listagg ln log log10 log2 lower ltrim mad make_date make_time
make_timestamp make_timestamp_ms make_timestamp_ns make_timestamptz map map_concat map_contains map_contains_entry
map_contains_value map_entries map_extract map_extract_value map_from_entries map_keys map_values max max_by md5
md5_number md5_number_lower md5_number_upper mean median microsecond millennium millisecond min min_by minute
mismatches mod mode month monthname multiply nanosecond nextafter nfc_normalize not_ilike_escape not_like_escape now
nth_value ntile nullif octet_length ord parse_formatted_bytes percent_rank pi position pow power prefix product
quantile quantile_cont quantile_disc quarter radians rank rank_dense reduce regexp_escape regexp_extract
regexp_extract_all regexp_full_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table
regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy replace reverse right
right_grapheme round round_even roundbankers row row_number rtrim second sem set_bit sha1 sha256 sign signbit sin
sinh skewness split split_part sqrt starts_with stddev stddev_pop stddev_samp str_split str_split_regex strftime
string_agg string_split string_split_regex string_to_array strip_accents strlen strpos strptime struct_concat
struct_contains struct_extract struct_extract_at struct_has struct_indexof struct_insert struct_keys struct_pack
struct_position struct_update struct_values substr substring substring_grapheme subtract suffix sum sumkahan switch
tan tanh time_bucket timezone timezone_hour timezone_minute to_base64 to_binary to_centuries to_days to_decades
to_hex to_hours to_microseconds to_millennia to_milliseconds to_minutes to_months to_quarters to_seconds
to_timestamp to_weeks to_years today transaction_timestamp translate trim trunc try_strptime typeof ucase unbin
unhex unicode unnest union_extract union_tag union_value upper url_decode url_encode uuid_extract_timestamp
uuid_extract_version var_pop var_samp variance variant_extract variant_typeof wavg week weekday weekofyear
weighted_avg xor year yearweek
"""
)

#: Functions that make much out of little, admitted when one argument is a literal number within a bound:
#: name → (index of the argument, largest value).
BOUNDED: dict[str, tuple[int, int]] = {"repeat": (1, 1000), "lpad": (1, 1000), "rpad": (1, 1000)}

#: As a scalar these build the whole list in memory, and are admitted where literals bound it (`series`). In FROM they
#: stream, and need no bound.
SERIES = frozenset({"range", "generate_series"})

#: What a stored view may call beside these, because it is read in a process of its own: makes much out of little, or is
#: not repeatable, but tells nothing of the process.
APART = _names(
    "aggregate array_aggr array_aggregate array_resize array_to_json bar bitstring bitstring_agg damerau_levenshtein "
    "editdist3 equi_width_bins format gen_random_uuid icu_sort_key json_group_structure json_quote json_structure "
    "levenshtein list_aggr list_aggregate list_resize parse_dirname parse_dirpath parse_filename parse_path printf "
    "random reservoir_quantile row_to_json st_asbinary st_astext st_aswkb st_aswkt st_geomfromwkb to_base to_json uuid "
    "uuidv4 uuidv7"
)

#: Functions that may stand in FROM.
TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})

#: DuckDB's parser writes the schema `main` itself when it turns syntax into a call of one of these. Any other call with
#: a schema was written so by the agent.
EMITTED_BY_PARSER = _names(
    "date_part ilike_escape like_escape list_apply list_filter list_value ltrim map not_ilike_escape "
    "not_like_escape position row rtrim struct_extract struct_pack substring timezone trim"
)

#: What to write instead of a function that is kept out.
INSTEAD: dict[str, str] = {
    "random": "For a sample of rows write `FROM my_table USING SAMPLE 100 ROWS`.",
    "uuid": "Number rows with row_number() OVER () instead.",
    "levenshtein": "Compare texts with jaro_winkler_similarity or jaccard.",
    "damerau_levenshtein": "Compare texts with jaro_winkler_similarity or jaccard.",
    "editdist3": "Compare texts with jaro_winkler_similarity or jaccard.",
    "format": "Join text with || and round numbers with round().",
    "printf": "Join text with || and round numbers with round().",
    "to_json": "Return structs and lists as they are, or build JSON with json_object.",
    "list_aggregate": "Name the aggregate itself: list_sum, list_avg, list_max, list_string_agg, …",
    "list_aggr": "Name the aggregate itself: list_sum, list_avg, list_max, list_string_agg, …",
    "array_aggregate": "Name the aggregate itself: list_sum, list_avg, list_max, list_string_agg, …",
    "charindex": "Use position('x' IN text) or strpos(text, 'x').",
    "dateadd": "Write my_date + INTERVAL 1 DAY.",
    "getdate": "Use now() or current_date.",
    "iff": "Use if(condition, a, b) or CASE.",
    "initcap": "Combine upper(left(text, 1)) || lower(text[2:]).",
    "isnull": "Use coalesce(a, b), or a IS NULL.",
    "nvl": "Use coalesce(a, b).",
    "getenv": "The environment is not readable from SQL.",
    "current_setting": "Settings are fixed by the server; the time zone is UTC.",
    "range": "In FROM it has no bound: FROM range(0, 1000) t(n).",
    "generate_series": "In FROM it has no bound: FROM generate_series(DATE '2024-01-01', DATE '2024-12-31', "
    "INTERVAL 1 DAY) t(day).",
    "repeat": "Give the count as a literal number of at most 1000.",
    "lpad": "Give the width as a literal number of at most 1000.",
    "rpad": "Give the width as a literal number of at most 1000.",
}
