{{- /* Truncates a table, unless it has no page: that costs milliseconds, and every session its plans. */}}
      if pg_relation_size('{{ .schema }}.{{ .table }}') > 0 then
        truncate {{ .table }};
      end if;
