-- Copyright (c) 2026, Latchkey contributors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Amazon RDS / Aurora PostgreSQL, as seen from SQL; bootstrap superuser rdsadmin.
--
-- stock:   catalogs as RDS has them, on a stock engine. NB: on 16+ the master user has
--   rds_superuser WITHOUT ADMIN OPTION; RDS lets it grant rds_superuser (and any unreserved
--   role) all the same, by a hook that records rdsadmin as grantor. A stock engine refuses.
-- patched: imitates that hook by memberships with ADMIN OPTION from rdsadmin.
--
-- pg_hba rejects database rdsadmin for members of rds_superuser (tests/rig/shapes.py).
--
-- Sources of the model: published cluster dumps of RDS 13, 14.6, 15.2, 17; AWS "Viewing roles".

-- ---------------------------------------------------------------- platform roles
CREATE ROLE rds_superuser NOLOGIN;
CREATE ROLE rds_iam NOLOGIN;
CREATE ROLE rds_password NOLOGIN;
CREATE ROLE rds_replication NOLOGIN;
CREATE ROLE rds_ad NOLOGIN;
CREATE ROLE rdsrepladmin NOLOGIN NOINHERIT REPLICATION;
CREATE ROLE rdstopmgr LOGIN;
{% if major >= 16 %}
CREATE ROLE rds_reserved NOLOGIN NOINHERIT;
CREATE ROLE rds_extension NOLOGIN NOINHERIT;
{% endif %}
ALTER ROLE rdsadmin SET search_path = pg_catalog;

GRANT pg_monitor, pg_signal_backend, rds_password, rds_replication TO rds_superuser WITH ADMIN OPTION;
{% if major >= 15 %}
-- 14.6 dump: absent; 15.2 dump: present, both
GRANT pg_checkpoint, pg_read_all_data, pg_write_all_data TO rds_superuser WITH ADMIN OPTION;
{% endif %}
{% if major >= 16 %}
GRANT pg_create_subscription, pg_use_reserved_connections TO rds_superuser WITH ADMIN OPTION;
{% endif %}
{% if major >= 17 %}
GRANT pg_maintain TO rds_superuser WITH ADMIN OPTION;
{% endif %}

CREATE ROLE cloudadmin LOGIN CREATEROLE CREATEDB PASSWORD 'cloudadmin' VALID UNTIL 'infinity';
{% if patched %}
GRANT rds_superuser TO cloudadmin WITH ADMIN OPTION;
{% else %}
GRANT rds_superuser TO cloudadmin;
{% endif %}
SET ROLE cloudadmin;
CREATE ROLE cloudadmin2 LOGIN CREATEROLE CREATEDB PASSWORD 'cloudadmin2';
RESET ROLE;
GRANT rds_superuser TO cloudadmin2;

-- ------------------------------------------------------------- platform databases
CREATE DATABASE rdsadmin;
REVOKE ALL ON DATABASE rdsadmin FROM PUBLIC;
ALTER DATABASE postgres  OWNER TO cloudadmin;
ALTER DATABASE template1 OWNER TO cloudadmin;
{% if major < 15 %}
-- 15+: public stays with pg_database_owner
-- @database template1
ALTER SCHEMA public OWNER TO cloudadmin;
-- @database postgres
ALTER SCHEMA public OWNER TO cloudadmin;
{% endif %}
-- @database postgres
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, command text);
CREATE FUNCTION cron.schedule(text, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
GRANT USAGE ON SCHEMA cron TO rds_superuser;
GRANT SELECT ON cron.job TO rds_superuser;

{% include "app_fixture.sql" %}
