-- Copyright (c) 2026, Latchkey contributors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Azure Database for PostgreSQL flexible server, as seen from SQL; bootstrap superuser azuresu.
--
-- stock:   the administrator holds only what a stock engine gives it, i.e. the state before
--   Azure's "improved control for azure_pg_admin", and the state of any self-managed server
--   with the same catalogs.
-- patched: imitates that improved control (members of azure_pg_admin manage roles, and reach
--   objects, of every non-restricted role) by memberships, because a stock engine has no hook
--   for it. Catalog contents are then NOT those of Azure; outcomes of GRANT and
--   ALTER DEFAULT PRIVILEGES are.
--
-- Sources of the model: published cluster dumps of flexible servers (16.2, 16.3), database
-- listings (13 to 16), and Microsoft's "Access management" page.

-- ---------------------------------------------------------------- platform roles
CREATE ROLE azure_pg_admin NOLOGIN INHERIT;
CREATE ROLE replication LOGIN REPLICATION;
ALTER ROLE azuresu SET search_path = pg_catalog;

-- predefined roles: the 16.x dumps show these WITH ADMIN OPTION; the set for 13..15
-- is the subset that exists there (assumption).  pg_write_all_data is never given.
GRANT pg_monitor, pg_read_all_settings, pg_read_all_stats, pg_stat_scan_tables,
      pg_signal_backend TO azure_pg_admin WITH ADMIN OPTION;
{% if major >= 14 %}
GRANT pg_read_all_data TO azure_pg_admin WITH ADMIN OPTION;
{% endif %}
{% if major >= 15 %}
GRANT pg_checkpoint TO azure_pg_admin WITH ADMIN OPTION;
{% endif %}
{% if major >= 16 %}
GRANT pg_create_subscription TO azure_pg_admin WITH ADMIN OPTION;
GRANT pg_use_reserved_connections TO replication;
{% endif %}
{% if major >= 17 %}
-- an assumption
GRANT pg_maintain TO azure_pg_admin WITH ADMIN OPTION;
{% endif %}

-- the server administrator: not a superuser; ADMIN OPTION on azure_pg_admin, from azuresu
CREATE ROLE cloudadmin LOGIN CREATEROLE CREATEDB PASSWORD 'cloudadmin';
{% if major >= 16 %}
ALTER ROLE cloudadmin BYPASSRLS;
{% endif %}
GRANT azure_pg_admin TO cloudadmin WITH ADMIN OPTION;
GRANT pg_read_all_settings, pg_read_all_stats, pg_stat_scan_tables TO cloudadmin WITH ADMIN OPTION;

-- a second administrator, made the way Microsoft documents it (and what
-- pgaadauth_create_principal(..., isAdmin => true) yields): no ADMIN OPTION
SET ROLE cloudadmin;
CREATE ROLE cloudadmin2 LOGIN CREATEROLE CREATEDB PASSWORD 'cloudadmin2';
GRANT azure_pg_admin TO cloudadmin2;
RESET ROLE;

-- ------------------------------------------------------------- platform databases
ALTER DATABASE postgres  OWNER TO azure_pg_admin;
ALTER DATABASE template0 OWNER TO azure_pg_admin;
ALTER DATABASE template1 OWNER TO azure_pg_admin;
-- owner azuresu, NULL acl
CREATE DATABASE azure_sys;
CREATE DATABASE azure_maintenance;

-- @database template1
-- on every major version, 15+ included: public belongs to azure_pg_admin
ALTER SCHEMA public OWNER TO azure_pg_admin;
-- @database postgres
ALTER SCHEMA public OWNER TO azure_pg_admin;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_reset() TO azure_pg_admin;

-- pg_cron lives in "postgres", owned by the platform; users get the API, not the tables
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, command text);
CREATE FUNCTION cron.schedule(text, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
GRANT USAGE ON SCHEMA cron TO azure_pg_admin;
GRANT SELECT ON cron.job TO azure_pg_admin;

-- @database azure_sys
CREATE SCHEMA query_store;
CREATE TABLE query_store.qs (id int);

-- @database postgres

{% include "app_fixture.sql" %}
