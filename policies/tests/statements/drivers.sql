SET extra_float_digits = 3
----
SET application_name = 'PostgreSQL JDBC Driver'
----
SHOW TRANSACTION ISOLATION LEVEL
----
SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME,  CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema'  WHEN true THEN CASE  WHEN n.nspname = 'pg_catalog' OR n.nspname = 'information_schema' THEN CASE c.relkind   WHEN 'r' THEN 'SYSTEM TABLE'   WHEN 'v' THEN 'SYSTEM VIEW'   WHEN 'i' THEN 'SYSTEM INDEX'   ELSE NULL   END  ELSE NULL  END  WHEN false THEN CASE c.relkind  WHEN 'r' THEN 'TABLE'  WHEN 'p' THEN 'PARTITIONED TABLE'  ELSE NULL  END  ELSE NULL  END  AS TABLE_TYPE, d.description AS REMARKS,  '' as TYPE_CAT, '' as TYPE_SCHEM, '' as TYPE_NAME, '' AS SELF_REFERENCING_COL_NAME, '' AS REF_GENERATION  FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c  LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0  and d.classoid = 'pg_class'::regclass)  WHERE c.relnamespace = n.oid  AND n.nspname LIKE 'public' AND (false  OR ( c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ) )  ORDER BY TABLE_TYPE,TABLE_SCHEM,TABLE_NAME
----
SELECT current_schema(),session_user
----
SELECT n.oid,n.*,d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid=n.oid AND d.objsubid=0 AND d.classoid='pg_namespace'::regclass ORDER BY nspname
----
SELECT db.oid,db.* FROM pg_catalog.pg_database db WHERE datname=$1
----
select string_agg(word, ',') from pg_catalog.pg_get_keywords() where word <> ALL ('{a,abs,absolute}'::text[])
----
SELECT pg_advisory_unlock_all();
CLOSE ALL;
UNLISTEN *;
RESET ALL;
----
SELECT version()
----
select pg_catalog.version()
----
SHOW standard_conforming_strings
----
select t.typname from pg_catalog.pg_type t left join pg_catalog.pg_type b on b.oid = t.typelem where t.oid = any($1)
----
WITH RECURSIVE typeinfo_tree(oid, ns, name, kind, basetype, elemtype, depth) AS (SELECT t.oid, 'x', t.typname, t.typtype, t.typbasetype, t.typelem, 0 FROM pg_type t WHERE t.oid = any($1::oid[]) UNION ALL SELECT ti.oid, 'x', ti.typname, ti.typtype, ti.typbasetype, ti.typelem, tt.depth + 1 FROM pg_type ti, typeinfo_tree tt WHERE ti.oid = tt.elemtype) SELECT DISTINCT *, basetype::regtype::text AS basetype_name FROM typeinfo_tree ORDER BY depth DESC
----
SELECT attr.attname, pg_catalog.format_type(attr.atttypid, attr.atttypmod), (SELECT substring(pg_get_expr(d.adbin, d.adrelid) for 128) FROM pg_attrdef d WHERE d.adrelid = attr.attrelid AND d.adnum = attr.attnum AND attr.atthasdef) FROM pg_attribute attr WHERE attr.attrelid = 'orders'::regclass AND attr.attnum > 0 AND NOT attr.attisdropped
----
SELECT abalance FROM pgbench_accounts WHERE aid = $1;
----
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY
----
SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST OFFSET 10 FETCH FIRST 5 ROWS ONLY
----
SELECT a, rank() OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY c ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
----
SELECT j -> 'a' ->> 'b', j #>> '{a,b}', j @> '{"a": 1}', k ?| array['a'] FROM t WHERE a ILIKE '%x%' AND b IS DISTINCT FROM c AND d BETWEEN 1 AND 2
----
SELECT date_trunc('day', at AT TIME ZONE 'UTC'), count(*) FILTER (WHERE ok) FROM t GROUP BY GROUPING SETS ((1), ()) HAVING count(*) > 1
----
SELECT * FROM unnest($1::int[], $2::text[]) WITH ORDINALITY AS u(a, b, n) CROSS JOIN LATERAL (SELECT 1 WHERE a = n) x
----
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a), array_agg(b ORDER BY c), string_agg(DISTINCT d, ',') FROM t
----
SELECT * FROM t WHERE (a, b) IN (SELECT c, d FROM u) AND a = ANY(ARRAY(SELECT 1)) OR EXISTS (TABLE v)
----
SELECT INTERVAL '1 day' + now(), DATE '2026-01-01', TIMESTAMP WITH TIME ZONE '2026-01-01', x::timestamp(3) FROM t TABLESAMPLE SYSTEM (10)
