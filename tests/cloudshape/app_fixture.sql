-- Copyright (c) 2026, Latchkey contributors
-- GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
-- Customer roles, databases and objects; included by azure_shape.sql and rds_shape.sql.
{% from "app_objects.sql" import objects %}

-- ------------------------------------------------------------------ customer roles
-- app_alpha  created by the admin           -> on 16+: admin has ADMIN, not INHERIT/SET
-- app_hyb    created by the admin, admin is an ordinary member of it
-- app_beta   created by another admin       -> on 16+: our admin has nothing on it
-- app_gamma  created by the platform / came with an upgrade or restore: nobody's
-- app_fellow an application owner that is itself in the platform admin group
SET ROLE {{ admin | ident }};
CREATE ROLE app_alpha LOGIN PASSWORD 'app';
CREATE ROLE app_hyb   NOLOGIN;
GRANT app_hyb TO {{ admin | ident }};
RESET ROLE;
SET ROLE {{ admin2 | ident }};
CREATE ROLE app_beta LOGIN PASSWORD 'app';
RESET ROLE;
CREATE ROLE app_gamma  LOGIN PASSWORD 'app';
CREATE ROLE app_fellow LOGIN PASSWORD 'app' CREATEROLE;
GRANT {{ platform_admin | ident }} TO app_fellow;
{% if patched %}
{% if major >= 16 %}
-- all three options must be spelled out: on an existing membership a bare re-grant
-- keeps INHERIT FALSE / SET FALSE (it only says NOTICE "already been granted")
GRANT app_alpha, app_hyb, app_beta, app_gamma, app_fellow TO {{ admin | ident }} WITH ADMIN TRUE, INHERIT TRUE, SET TRUE;
GRANT app_alpha, app_hyb, app_beta, app_gamma TO {{ admin2 | ident }} WITH ADMIN TRUE, INHERIT TRUE, SET TRUE;
{% else %}
GRANT app_alpha, app_hyb, app_beta, app_gamma, app_fellow TO {{ admin | ident }} WITH ADMIN OPTION;
GRANT app_alpha, app_hyb, app_beta, app_gamma TO {{ admin2 | ident }} WITH ADMIN OPTION;
{% endif %}
{% endif %}

-- --------------------------------------------------------------- customer databases
-- several owners, defaults of PUBLIC kept
CREATE DATABASE appdb_open OWNER app_alpha;
-- routines revoked from PUBLIC, and so on
CREATE DATABASE appdb_hard OWNER app_beta;
-- everything belongs to the admin
CREATE DATABASE admindb OWNER {{ admin | ident }};
CREATE DATABASE "App ""DB"" é;--" OWNER {{ admin | ident }};
CREATE DATABASE tmpl_db OWNER {{ admin | ident }} IS_TEMPLATE true;
CREATE DATABASE noconn_db OWNER {{ admin | ident }} ALLOW_CONNECTIONS false;
-- the admin has no CONNECT
CREATE DATABASE locked_db OWNER app_beta;
REVOKE ALL ON DATABASE locked_db FROM PUBLIC;
-- what an interrupted DROP DATABASE leaves behind
CREATE DATABASE invalid_db;
UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'invalid_db';

-- =========================================================================== admindb
-- @database admindb
{{ objects('admin_s', admin) }}

-- ======================================================================== appdb_open
-- @database appdb_open
CREATE FOREIGN DATA WRAPPER fixture_fdw;
CREATE SERVER fixture_srv FOREIGN DATA WRAPPER fixture_fdw;
GRANT USAGE ON FOREIGN SERVER fixture_srv TO PUBLIC;
GRANT CREATE ON DATABASE appdb_open TO app_alpha, app_beta, app_gamma, app_hyb, app_fellow, {{ admin | ident }};
{{ objects('alpha_s', 'app_alpha', foreign_table=true) }}
{{ objects('beta_s', 'app_beta', foreign_table=true) }}
{{ objects('gamma_s', 'app_gamma', foreign_table=true) }}
{{ objects('hyb_s', 'app_hyb', foreign_table=true) }}
{{ objects('fellow_s', 'app_fellow', foreign_table=true) }}
{{ objects('admin_s', admin, foreign_table=true) }}
-- names meant to break naive quoting
{{ objects('Weird "Schema"; DROP TABLE x;-- ünïcödé %s $$', 'app_alpha', foreign_table=true) }}
-- a name the vendor's LIKE 'pg_%' swallows: "_" is a wildcard there
{{ objects('pgboss', 'app_alpha', foreign_table=true) }}
-- schema of the admin, tables of others
CREATE SCHEMA mixed_s AUTHORIZATION {{ admin | ident }};
GRANT USAGE, CREATE ON SCHEMA mixed_s TO app_alpha, app_beta;
SET ROLE app_alpha; CREATE TABLE mixed_s.of_alpha (id int); RESET ROLE;
SET ROLE app_beta; CREATE TABLE mixed_s.of_beta (id int);  RESET ROLE;
SET ROLE {{ admin | ident }}; CREATE TABLE mixed_s.of_admin (id int); RESET ROLE;
-- schema of app_alpha, one table of app_beta in it
GRANT USAGE, CREATE ON SCHEMA alpha_s TO app_beta;
SET ROLE app_beta; CREATE TABLE alpha_s.of_beta (id int);  RESET ROLE;
-- platform-owned extension schema inside a customer database
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid int, command text);
-- a schema nobody but its owner may see
SET ROLE app_gamma;
CREATE SCHEMA hidden_s; CREATE TABLE hidden_s.t (id int);
RESET ROLE;
-- public
GRANT CREATE ON SCHEMA public TO app_alpha;
SET ROLE app_alpha; CREATE TABLE public.of_alpha (id int); RESET ROLE;
-- large object
SET ROLE app_alpha; SELECT lo_create(424242);
RESET ROLE;

-- ======================================================================== appdb_hard
-- @database appdb_hard
GRANT CREATE ON DATABASE appdb_hard TO app_beta;
{{ objects('hard_s', 'app_beta') }}
SET ROLE app_beta;
GRANT USAGE ON SCHEMA hard_s TO PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA hard_s FROM PUBLIC;
REVOKE ALL ON TYPE hard_s.e_mood FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
RESET ROLE;

-- ========================================================================= locked_db
-- @database locked_db
{{ objects('locked_s', 'app_beta') }}

-- ====================================================== hostile database name
-- @database "App ""DB"" é;--"
{{ objects('S "x"', admin) }}
